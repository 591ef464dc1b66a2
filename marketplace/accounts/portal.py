"""The portal's pages about the organization: choosing one, API keys, members.

They do what REST does, by the same functions, and show their refusals beside the form.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from marketplace.accounts import issuing, members
from marketplace.accounts.actors import SESSION_ORGANIZATION
from marketplace.accounts.forms import NewKeyForm, NewMemberForm
from marketplace.accounts.models import ApiKey, Membership, Role, Scope, User
from marketplace.accounts.roles import SCOPES_OF_ROLE
from marketplace.rest.problems import Problem, not_found
from marketplace.web.pages import PortalPage


@require_POST
@login_required
def choose_organization(request: HttpRequest) -> HttpResponse:
    """Remembers in the session which of their organizations the person works for."""
    assert isinstance(request.user, User)
    chosen = request.POST.get("organization", "").replace("\x00", "")
    if request.user.organizations.filter(public_id=chosen).exists():
        request.session[SESSION_ORGANIZATION] = chosen
    return redirect("/")


class ApiKeysPage(PortalPage):
    """The organization's keys, and a form for a new one. Its secret is shown in the answer, once."""

    template_name = "accounts/api_keys.html"

    def post(self, request: HttpRequest) -> HttpResponse:
        form = NewKeyForm(request.POST, granted=self.actor.scopes)
        if not form.is_valid():
            return self.render_to_response(self.get_context_data(form=form), status=400)
        try:
            key, secret = issuing.create_key(
                actor=self.actor,
                name=form.cleaned_data["name"],
                scopes=form.cleaned_data["scopes"],
                expires_at=form.expires_at(),
            )
        except Problem as problem:
            return self._refused(form, problem)
        response = self.render_to_response(self.get_context_data(issued=key, secret=secret))
        response.headers["Cache-Control"] = "no-store"
        return response

    def _refused(self, form: Form, problem: Problem) -> HttpResponse:
        form.add_error(None, str(problem.detail))
        return self.render_to_response(self.get_context_data(form=form), status=problem.status_code)

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        keys = ApiKey.objects.filter(organization=self.actor.organization).select_related("created_by")
        now = timezone.now()
        rows = [{"key": key, "state": key.state_at(now)} for key in keys.order_by("-public_id")]
        context.setdefault("form", NewKeyForm(granted=self.actor.scopes))
        return super().get_context_data(**context) | {
            "rows": rows,
            "may_manage": Scope.ADMIN in self.actor.scopes,
        }


class RevokeApiKey(PortalPage):
    http_method_names = ["post"]

    def post(self, request: HttpRequest, public_id: str) -> HttpResponse:
        key = ApiKey.objects.filter(organization=self.actor.organization, public_id=public_id).first()
        if key is None:
            raise not_found()
        issuing.revoke_key(actor=self.actor, key=key)
        messages.success(request, f"The key {key.name} is revoked.")
        return redirect("api-keys")


class MembersPage(PortalPage):
    """The organization's people, and a form to add one."""

    template_name = "accounts/members.html"

    def post(self, request: HttpRequest) -> HttpResponse:
        form = NewMemberForm(request.POST)
        if form.is_valid():
            try:
                membership = members.add_member(actor=self.actor, **form.cleaned_data)
            except Problem as problem:
                form.add_error("email", str(problem.errors[0]["message"] if problem.errors else problem))
            else:
                messages.success(request, f"{membership.user.email} is a member now.")
                return redirect("members")
        return self.render_to_response(self.get_context_data(form=form), status=400)

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        people = Membership.objects.filter(organization=self.actor.organization).select_related("user")
        context.setdefault("form", NewMemberForm())
        return super().get_context_data(**context) | {
            "people": people.order_by("user__email"),
            "roles": [(value, label, sorted(SCOPES_OF_ROLE[value])) for value, label in Role.choices],
            "may_manage": Scope.ADMIN in self.actor.scopes,
        }


class ChangeMember(PortalPage):
    """Gives a member another role (`role`), or removes them (`remove`)."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, public_id: str) -> HttpResponse:
        people = Membership.objects.select_related("user", "organization")
        membership = people.filter(organization=self.actor.organization, public_id=public_id).first()
        if membership is None:
            raise not_found()
        role = request.POST.get("role", "")
        if role not in Role.values and "remove" not in request.POST:
            raise Problem(detail=f"There is no role {role[:40]!r}.")
        try:
            if "remove" in request.POST:
                members.remove_member(actor=self.actor, membership=membership)
                messages.success(request, f"{membership.user.email} is no longer a member.")
            else:
                members.change_role(actor=self.actor, membership=membership, role=role)
                messages.success(request, f"{membership.user.email} is {membership.get_role_display()} now.")
        except Problem as problem:
            messages.error(request, str(problem.detail))
        return redirect("members")
