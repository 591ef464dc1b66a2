"""Workspaces as the gateway sees them: which pod answers for one, or why none does. At most a second old."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deployments.gateway.database import Database
from deployments.gateway.directory import RETRY_AFTER, RETRY_SOON
from deployments.gateway.errors import GatewayError, unavailable
from deployments.gateway.remembering import Remembered
from deployments.serving.models import DeploymentState, DesiredState, Replica
from deployments.workspaces.models import Workspace, WorkspaceState

_ID = re.compile(r"wsp_[0-9a-z]{16,26}")


@dataclass(frozen=True, kw_only=True)
class Room:
    """One workspace."""

    public_id: str
    name: str
    state: str
    """A `WorkspaceState` value."""
    reason: str
    """Why it does not answer, for people; empty if nothing is known."""
    wanted: bool
    """False once the customer has paused it: what still runs is on its way out."""
    address: str
    """host:port of the pod that answers; empty while none does."""

    def refusal(self) -> GatewayError | None:
        """Why nobody can enter now; None = they can."""
        if self.wanted and self.address:
            return None
        state = WorkspaceState(self.state) if self.wanted else WorkspaceState.PAUSED
        words = f"The workspace '{self.name}' is {state.label.lower()}"
        if state == WorkspaceState.RUNNING:
            words = f"The workspace '{self.name}' does not answer at the moment"
        reason = f": {self.reason.rstrip('.')}." if self.reason and self.wanted else "."
        advice = "" if self.wanted else " Resume it to work in it; its volume is kept."
        retry_after = RETRY_AFTER.get(DeploymentState(state.value), RETRY_SOON)
        return unavailable(words + reason + advice, code="workspace_not_ready", retry_after=retry_after)


class Rooms:
    """Finds workspaces by id."""

    def __init__(self, database: Database, *, age: float, stale: float) -> None:
        self._database = database
        self._rooms: Remembered[str, Room | None] = Remembered(self._load, age=age, stale=stale)

    async def enter(self, public_id: str) -> Room:
        """The workspace, with a pod that answers. Raises GatewayError 404 or 503."""
        room = await self._rooms.get(public_id) if _ID.fullmatch(public_id) else None
        if room is None:
            raise GatewayError(
                404,
                "There is no such workspace, or it was deleted. GET /api/v1/workspaces/ lists yours.",
                code="workspace_not_found",
            )
        if refusal := room.refusal():
            raise refusal
        return room

    def forget(self, public_id: str) -> None:
        """Reads again at the next question: its pod was not where it should be."""
        self._rooms.forget(public_id)

    async def _load(self, public_id: str) -> Room | None:
        return await self._database.run(load_room, public_id)


def load_room(public_id: str) -> Room | None:
    """From the database, in two queries."""
    rows = Workspace.objects.exclude(desired_state=DesiredState.DELETED)
    workspace = rows.filter(public_id=public_id, deleted_at=None).first()
    if workspace is None:
        return None
    living = Replica.objects.filter(resource=public_id, ready=True, finished_at=None, vanished_at=None)
    replica = living.exclude(address="").order_by("-created_at").first()
    return Room(
        public_id=public_id,
        name=workspace.name,
        state=workspace.state,
        reason=_reason(workspace.conditions),
        wanted=workspace.desired_state == DesiredState.RUNNING,
        address=replica.address if replica else "",
    )


def _reason(conditions: Sequence[dict[str, Any]]) -> str:
    return next((str(it["message"]) for it in conditions if it["status"] == "False" and it["message"]), "")
