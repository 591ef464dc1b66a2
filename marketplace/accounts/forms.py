"""The forms of the portal's pages about the organization."""

from __future__ import annotations

from datetime import datetime, timedelta

from django import forms
from django.utils import timezone

from marketplace.accounts.models import Role, Scope

LIFETIMES = [("30", "30 days"), ("90", "90 days"), ("365", "1 year"), ("", "No end")]


class NewKeyForm(forms.Form):
    """A wish for an API key; offers only scopes that the person has."""

    name = forms.CharField(max_length=80, help_text="What will use it, for example “nightly evaluation”.")
    scopes = forms.MultipleChoiceField(widget=forms.CheckboxSelectMultiple, label="It may")
    lifetime = forms.ChoiceField(choices=LIFETIMES, initial="90", required=False, label="It ends after")

    def __init__(self, *args: object, granted: frozenset[str], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        scopes = self.fields["scopes"]
        assert isinstance(scopes, forms.MultipleChoiceField)
        scopes.choices = [choice for choice in Scope.choices if choice[0] in granted]
        scopes.initial = [scope for scope in (Scope.READ, Scope.INFER) if scope in granted]

    def expires_at(self) -> datetime | None:
        days = self.cleaned_data["lifetime"]
        return timezone.now() + timedelta(days=int(days)) if days else None


class NewMemberForm(forms.Form):
    email = forms.EmailField(max_length=254, label="E-mail address", help_text="Of somebody with an account.")
    role = forms.ChoiceField(choices=Role.choices, initial=Role.VIEWER)
