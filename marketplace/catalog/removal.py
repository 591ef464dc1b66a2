"""Removes a customer's own model from the catalog, unless something uses it.

The rows stay: bills, lineage and old revisions refer to them. The files go when nothing needs them any more,
which whoever keeps the storage finds out later.

Who uses a model is known to `deployments`, which the catalog must not import; it registers here when its app
is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from marketplace.accounts import audit
from marketplace.accounts.actors import Actor
from marketplace.catalog.models import Model, ModelVersion


@dataclass(frozen=True, kw_only=True)
class Use:
    """Something that needs a model."""

    id: str
    """Public id."""
    name: str
    what: str
    """A noun: deployment, fine-tuning job, model."""


class ModelInUse(Exception):
    """Nothing was removed. `uses` says what to delete first."""

    def __init__(self, model: Model, uses: list[Use]) -> None:
        names = ", ".join(f"{use.what} {use.name} ({use.id})" for use in uses[:5])
        more = f" and {len(uses) - 5} more" if len(uses) > 5 else ""
        super().__init__(f"{model} is used by {names}{more}. Delete that first.")
        self.uses = uses


class NotYours(Exception):
    """A model of the provider's catalog is not the customer's to remove."""


UseSource = Callable[[Model], Iterable[Use]]
"""(model) -> what uses any of its versions now."""

_sources: list[UseSource] = []


def register_uses(source: UseSource) -> UseSource:
    """Asks `source` before any model is removed. Registering it again changes nothing."""
    if source not in _sources:
        _sources.append(source)
    return source


@transaction.atomic
def remove_model(*, actor: Actor, model: Model) -> None:
    """Takes the organization's own model away from lists and from new deployments and jobs.

    Raises NotYours or ModelInUse; removing what is removed already does nothing.
    """
    row = Model.objects.select_for_update().get(pk=model.pk)
    if row.owner_id != actor.organization.pk:
        raise NotYours(f"{row} belongs to the provider's catalog.")
    if row.deleted_at is not None:
        return
    uses = [*_tuned_from(row), *(use for source in _sources for use in source(row))]
    if uses:
        raise ModelInUse(row, uses)
    row.deleted_at = timezone.now()
    row.save(update_fields=["deleted_at"])
    audit.record(actor=actor, action="model.delete", target=row.public_id)


def keep_model(model: Model) -> bool:
    """Whether a model is there, and keeps it there until the transaction ends that begins to use it.

    Only an organization's own can be removed, so that nobody waits for others who use one of the provider's.
    """
    if model.owner_id is None:
        return True
    row = Model.objects.select_for_update(of=("self",)).get(pk=model.pk)
    return row.deleted_at is None


def _tuned_from(model: Model) -> Iterable[Use]:
    """An adapter needs the weights of what it was tuned from."""
    children = ModelVersion.objects.filter(parent__model=model, model__deleted_at__isnull=True)
    for child in (
        children.exclude(model=model).select_related("model").order_by("model_id").distinct("model_id")
    ):
        yield Use(id=child.model.public_id, name=str(child.model), what="model")
