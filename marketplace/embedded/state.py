"""What a running manager tells other processes: home/state.json, replaced as a whole on every change."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ComponentState:
    """One component as the manager sees it."""

    pid: int | None
    """None while it is down and waits to be started again."""
    restarts: int
    log: str


@dataclass(frozen=True, kw_only=True)
class ManagerState:
    """The manager of a home and its components."""

    manager: int
    """Its process id."""
    web_url: str
    gateway_url: str
    ready: bool = False
    """True once everything was up for the first time."""
    components: dict[str, ComponentState] = field(default_factory=dict)


def state_file(root: Path) -> Path:
    return root / "state.json"


def write_state(root: Path, state: ManagerState) -> None:
    """Replaces the file, so that a reader sees the old text or the new one, never a part."""
    path = state_file(root)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(state), indent=1) + "\n")
    os.replace(fresh, path)


def read_state(root: Path) -> ManagerState | None:
    """The last written state; None when there is none. Says nothing on whether its manager still lives."""
    try:
        values: dict[str, Any] = json.loads(state_file(root).read_text())
    except FileNotFoundError:
        return None
    components = {name: ComponentState(**value) for name, value in values.pop("components").items()}
    return ManagerState(**values, components=components)
