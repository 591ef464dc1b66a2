"""What every portal page begins with: a signed-in person, their organization, and errors as a page.

The pages of a subject live in its `portal.py`, their templates in its `templates/<subject>/`, extending
`web/base.html`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.generic import TemplateView

from marketplace.accounts.actors import Actor, actor_of
from marketplace.accounts.models import Scope
from marketplace.rest.problems import Problem, not_found, request_id_of


class PortalPage(LoginRequiredMixin, TemplateView):
    """A page for members whose role grants `required_scope`.

    A page that takes forms names what a POST needs in `post_scope`. `Problem` may be raised anywhere in it.
    """

    required_scope: ClassVar[str] = Scope.READ
    post_scope: ClassVar[str] = Scope.ADMIN

    @property
    def actor(self) -> Actor:
        return actor_of(self.request)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return self.handle_no_permission()
        try:
            self._check_scope(request)
            # PostgreSQL takes no NUL in a text, and no id has one: there is nothing.
            if any("\x00" in str(value) for value in kwargs.values()):
                raise not_found()
            return super().dispatch(request, *args, **kwargs)
        except Problem as problem:
            return problem_page(request, problem)

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        return super().get_context_data(**context) | {"actor": self.actor}

    def _check_scope(self, request: HttpRequest) -> None:
        needed = self.post_scope if request.method == "POST" else self.required_scope
        if needed not in self.actor.scopes:
            raise Problem(
                status=403,
                type="scope-missing",
                title="Not allowed",
                detail=f"Your role in {self.actor.organization.name} does not include '{needed}'. "
                "Ask an owner.",
            )


def problem_page(request: HttpRequest, problem: Problem) -> HttpResponseBase:
    """The page that shows a problem to a person."""
    context = {"problem": problem, "request_id": request_id_of(request)}
    return render(request, "web/problem.html", context, status=problem.status_code)
