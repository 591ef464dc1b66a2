"""The portal's pages about the organization: choosing one, API keys, members."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from marketplace.accounts.actors import SESSION_ORGANIZATION
from marketplace.accounts.models import User


@require_POST
@login_required
def choose_organization(request: HttpRequest) -> HttpResponse:
    """Remembers in the session which of their organizations the person works for."""
    assert isinstance(request.user, User)
    chosen = request.POST.get("organization", "").replace("\x00", "")
    if request.user.organizations.filter(public_id=chosen).exists():
        request.session[SESSION_ORGANIZATION] = chosen
    return redirect("/")
