"""Which kind of workload a public id names. Adding a kind is a line here."""

from __future__ import annotations

from deployments.reconcile.kinds import Kind
from deployments.reconcile.serving import Serving
from deployments.reconcile.tuning import Tuning
from deployments.reconcile.workspaces import Workspaces

KINDS: dict[str, Kind] = {"dep": Serving(), "ftj": Tuning(), "wsp": Workspaces()}
"""Prefix of the public id -> kind."""


def kind_of(resource: str) -> Kind:
    """The kind of workload that a public id names. Raises LookupError for a foreign id."""
    prefix = resource.partition("_")[0]
    if prefix not in KINDS:
        raise LookupError(f"{resource!r} is no workload: expected an id that starts with {', '.join(KINDS)}")
    return KINDS[prefix]
