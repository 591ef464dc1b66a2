"""Who may have a model's files, and why not: terms that a customer accepts, and the hub's leave to fetch.

Answers come from rows and from what was remembered, never from a call of the hub: plans are made inside
requests and transactions. The hub's opinion of our token is asked for in the background (`probe_hub_token`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from django.conf import settings
from django.core.cache import cache
from django.db.models import OuterRef, QuerySet
from redis.exceptions import RedisError

from marketplace.accounts import audit
from marketplace.accounts.actors import Actor
from marketplace.accounts.models import Organization
from marketplace.catalog import hub
from marketplace.catalog.models import ImportState, License, Model, ModelImport, TermsAcceptance

log = logging.getLogger(__name__)

_TOKEN_REFUSED = "catalog:hub-token-refused"


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why a model's weights are not here, and what brings them."""

    message: str
    remedy: str


def needs_acceptance(model: Model, *, organization: Organization) -> bool:
    """Whether an organization has yet to accept the terms of a gated model, as they are now."""
    if not model.gated or model.owner_id == organization.pk:
        return False
    return not TermsAcceptance.objects.filter(
        organization=organization, model=model, license=model.license
    ).exists()


def accepted_terms(organization: Organization) -> QuerySet[TermsAcceptance]:
    """For `Exists` over models: the organization's acceptance of a model's present license."""
    return TermsAcceptance.objects.filter(
        organization=organization, model=OuterRef("pk"), license=OuterRef("license")
    )


def accept_terms(*, actor: Actor, model: Model) -> TermsAcceptance:
    """Records that an organization accepts the terms of a gated model, once for each license."""
    acceptance, created = TermsAcceptance.objects.get_or_create(
        organization=actor.organization,
        model=model,
        license=model.license,
        defaults={"accepted_by": actor.name},
    )
    if created:
        changes = {"license": [None, model.license.slug]}
        audit.record(actor=actor, action="model.accept-terms", target=model.public_id, changes=changes)
    return acceptance


def terms_url(model: Model) -> str:
    """Where the terms of a model can be read: its license's page, else the model's own on the hub."""
    license: License = model.license
    return license.url or (f"{settings.HF_ENDPOINT}/{_repository(model)}" if _repository(model) else "")


def obstacle_to_import(model: Model) -> Obstacle:
    """What keeps the weights of a model that has none in storage from being fetched."""
    newest = ModelImport.objects.filter(model=model).order_by("-pk").first()
    if newest is not None and newest.state in (ImportState.QUEUED, ImportState.RUNNING):
        total = newest.bytes_total or 0
        share = f", {newest.bytes_done * 100 // total} % of {total / 2**30:.1f} GiB" if total else ""
        return Obstacle(
            message=f"Its weights are being imported{share}.", remedy="Ask again when they are here."
        )
    repository = _repository(model)
    if repository and (refused := _token_refusal()):
        return Obstacle(
            message=f"The hub does not accept the provider's token any more: {refused}",
            remedy="Ask the provider's staff to set a valid HF_TOKEN and to import the model.",
        )
    if repository and model.gated and not settings.HF_TOKEN:
        return Obstacle(
            message=f"{repository} is gated on the hub, and no hub token is set.",
            remedy=f"Ask the provider's staff to accept its terms at {settings.HF_ENDPOINT}/{repository} and "
            "to set HF_TOKEN to a token of that account.",
        )
    if newest is not None and newest.state == ImportState.FAILED:
        return Obstacle(
            message=f"Its last import failed: {newest.error}",
            remedy="Ask the provider's staff to mend this and to start the import again.",
        )
    return Obstacle(
        message="Nobody has imported it yet.", remedy="Ask the provider's staff to import the model."
    )


def probe_token() -> bool:
    """Asks the hub whether it accepts HF_TOKEN, and remembers the answer. True unless it was refused.

    A hub that does not answer changes nothing: what it said last stays known.
    """
    try:
        hub.check_token()
    except hub.HubRefused as error:
        cache.set(_TOKEN_REFUSED, str(error), timeout=None)
        return False
    except hub.HubUnavailable as error:
        log.info("the hub does not say whether it accepts HF_TOKEN: %s", error)
        return _TOKEN_REFUSED not in cache
    cache.delete(_TOKEN_REFUSED)
    return True


def _token_refusal() -> str:
    """Why the hub refused our token when last asked; empty when it did not."""
    if not settings.HF_TOKEN:
        return ""
    try:
        return str(cache.get(_TOKEN_REFUSED) or "")
    except RedisError as error:
        log.warning("The cache does not answer, so what the hub said of HF_TOKEN is not known: %s", error)
        return ""


def _repository(model: Model) -> str:
    kind, _, name = model.source.partition(":")
    return name if kind == "hub" else ""
