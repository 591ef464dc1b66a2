"""Signing in by e-mail address and password, slowed down when somebody guesses."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse

from marketplace.accounts.throttle import seconds_to_wait


class SignIn(LoginView):
    template_name = "web/sign_in.html"
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if wait := seconds_to_wait(request):
            form = AuthenticationForm(request)
            response = self.render_to_response(self.get_context_data(form=form, wait=wait), status=429)
            response.headers["Retry-After"] = str(wait)
            return response
        return super().post(request, *args, **kwargs)
