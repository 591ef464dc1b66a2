from __future__ import annotations

from tests.deployments.reconcile.workloads import world

__all__ = ["world"]
