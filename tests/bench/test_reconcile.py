"""`make bench-reconcile` with few deployments and without a clock, so that it does not rot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deployments.reconcile import tasks
from tests.bench.reconcile_load import Connection, Load, api_server


@pytest.mark.django_db(transaction=True)
def test_a_settled_sweep_makes_as_many_calls_for_many_as_for_few_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the load counts with is put back at the end.
    monkeypatch.setattr(Connection, "_call", Connection._call)
    monkeypatch.setattr(tasks.reconcile_one, "delay", tasks.reconcile_one.delay)
    with api_server(tmp_path) as kubeconfig:
        load = Load(tmp_path, kubeconfig, customers=3)
        sweeps = []
        for size in (5, 60):
            load.settle(size)
            sweeps.append(replace(load.measure_sweep(), seconds=0, cpu_seconds=0))
        burst = load.measure_burst(5, workers=2)

    assert sweeps[0] == sweeps[1]
    assert (sweeps[0].writes, sweeps[0].versions, burst.count) == (0, 0, 5)
