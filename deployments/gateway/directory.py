"""Deployments of an organization and their ready replicas, at most a second old.

Only reads what the reconciler wrote. A deployment is looked up among those of the caller's organization, so
another organization's is not refused: it is simply not there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from deployments.gateway.balancing import Upstream
from deployments.gateway.database import Database
from deployments.gateway.errors import GatewayError, model_not_found, unavailable
from deployments.gateway.remembering import Remembered
from deployments.serving.models import Deployment, DeploymentState, DesiredState, Replica

# Seconds until a caller should ask again, by state. Waking from a pause needs a person first.
RETRY_AFTER = {
    DeploymentState.PENDING: 15,
    DeploymentState.INITIALIZING: 5,
    DeploymentState.SCALED_TO_ZERO: 5,
    DeploymentState.PAUSED: 60,
    DeploymentState.FAILED: 60,
}
RETRY_SOON = 2


@dataclass(frozen=True, kw_only=True)
class Served:
    """A deployment as the gateway sees it."""

    public_id: str
    name: str
    organization: int
    """Database key."""
    owner: str
    """Slug of the organization."""
    created_at: datetime
    state: str
    """A `DeploymentState` value."""
    reason: str
    """Why it does not serve, for people; empty if nothing is known."""
    wanted: bool
    """False once the customer has paused it: what still runs is on its way out."""
    upstreams: tuple[Upstream, ...]
    """All that answer, those of a canary among them."""
    canary: frozenset[str] = frozenset()
    """uids of the replicas of a canary, while there is one."""
    canary_weight: int = 0
    """Percent of the calls that it is to get."""

    def share_of(self, request_id: str) -> frozenset[str]:
        """uids of the replicas that should answer a call: the canary's or the others'; none = whichever.

        Decided by the id alone, so that a call that is sent again goes the same way, through any gateway.
        Nobody's share is lost: when none of them can be reached, the other side answers.
        """
        if not self.canary_weight:
            return frozenset()
        digest = blake2b(request_id.encode(), digest_size=8).digest()
        if int.from_bytes(digest) % 100 < self.canary_weight:
            return self.canary
        return frozenset(upstream.uid for upstream in self.upstreams) - self.canary

    def to_json(self) -> dict[str, Any]:
        """An OpenAI model object; `state` and `deployment` are ours."""
        return {
            "id": self.name,
            "object": "model",
            "created": int(self.created_at.timestamp()),
            "owned_by": self.owner,
            "deployment": self.public_id,
            "state": self.state,
        }

    def refusal(self) -> GatewayError | None:
        """Why a call cannot be served now; None = it can."""
        if self.wanted and self.upstreams:
            return None
        state = DeploymentState(self.state)
        if not self.wanted:
            state = DeploymentState.PAUSED
        words = f"The deployment '{self.name}' is {state.label.lower()}"
        if self.wanted and state == DeploymentState.RUNNING:
            words = f"The deployment '{self.name}' has no ready replica at the moment"
        reason = f": {self.reason.rstrip('.')}." if self.reason else "."
        advice = " Resume it to call it." if state == DeploymentState.PAUSED else ""
        return unavailable(
            words + reason + advice, code="model_not_ready", retry_after=RETRY_AFTER.get(state, RETRY_SOON)
        )


class Directory:
    """Finds deployments by organization and name."""

    def __init__(self, database: Database, *, age: float, stale: float) -> None:
        self._database = database
        self._served: Remembered[int, Sequence[Served]] = Remembered(self._load, age=age, stale=stale)

    async def all_of(self, organization: int) -> Sequence[Served]:
        """Every deployment that the organization has not deleted, newest first."""
        return await self._served.get(organization)

    async def find(self, organization: int, model: str) -> Served:
        """The deployment with this name or public id. Raises GatewayError 404 model_not_found."""
        deployments = await self.all_of(organization)
        for served in deployments:
            if model in (served.name, served.public_id):
                return served
        raise model_not_found(model)

    def forget(self, organization: int) -> None:
        """Reads again at the next question: a replica was not where it should be."""
        self._served.forget(organization)

    async def _load(self, organization: int) -> Sequence[Served]:
        return await self._database.run(load_served, organization)


def load_served(organization: int) -> list[Served]:
    """Deployments of one organization, from the database: two queries."""
    deployments = list(
        Deployment.objects.filter(organization=organization, deleted_at=None)
        .exclude(desired_state=DesiredState.DELETED)
        .select_related("organization")
        .order_by("-id")
    )
    replicas = Replica.objects.filter(
        resource__in=[deployment.public_id for deployment in deployments],
        ready=True,
        finished_at=None,
        vanished_at=None,
    ).exclude(address="")
    ready: defaultdict[str, list[Replica]] = defaultdict(list)
    for replica in replicas:
        ready[replica.resource].append(replica)
    return [_served(deployment, ready[deployment.public_id]) for deployment in deployments]


def _served(deployment: Deployment, ready: Sequence[Replica]) -> Served:
    # While a new revision comes up both have ready replicas; the old one answers until it has handed over. A
    # canary answers beside it.
    answering = {deployment.stable_revision or deployment.serving_revision}
    if deployment.canary_weight is not None:
        answering.add(deployment.target_revision)
    serving = [replica for replica in ready if replica.revision in answering] or ready
    canary = [replica.uid for replica in serving if replica.revision == deployment.target_revision]
    return Served(
        public_id=deployment.public_id,
        name=deployment.name,
        organization=deployment.organization_id,
        owner=deployment.organization.slug,
        created_at=deployment.created_at,
        state=deployment.state,
        reason=_reason(deployment.conditions),
        wanted=deployment.desired_state == DesiredState.RUNNING,
        upstreams=tuple(Upstream(replica.uid, replica.address, replica.revision) for replica in serving),
        canary=frozenset(canary if deployment.canary_weight is not None else ()),
        canary_weight=deployment.canary_weight or 0,
    )


def _reason(conditions: Sequence[dict[str, Any]]) -> str:
    """The message of the newest condition that is not met."""
    unmet = [it for it in conditions if it.get("status") == "False" and it.get("message")]
    return str(max(unmet, key=lambda it: str(it.get("since", "")))["message"]) if unmet else ""
