"""The API server of `tests.bench.reconcile`: the stand-in with nodes whose pods are ready at once.

python -m tests.bench.reconcile_server KUBECONFIG
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tests.kubernetes.kubelet.fleet import Fleet
from tests.kubernetes.kubelet.nodes import Node
from tests.kubernetes.kubelet.scripted import Scripted
from tests.kubernetes.standin import StandIn

NODES = 12


def main(kubeconfig: Path) -> None:
    capacity = {"cpu": "4000", "memory": "8Ti", "pods": "2000"}
    nodes = [Node(name=f"node-{number}", capacity=capacity) for number in range(NODES)]
    with StandIn(seed=1) as standin:
        unfinished = kubeconfig.with_suffix(".new")
        standin.kubeconfig(unfinished)
        with Fleet(unfinished, nodes, Scripted(), leases=False):
            unfinished.rename(kubeconfig)
            signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    # Before any thread starts, so that all of them inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(Path(sys.argv[1]))
