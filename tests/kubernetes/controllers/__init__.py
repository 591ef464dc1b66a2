"""What makes the stand-in's objects do something: controllers, scheduler and garbage collector.

They call the server's verbs in its own thread, and only one at a time, so that a seed decides everything but
the moments. A real control plane brings its own.
"""

from __future__ import annotations

from tests.kubernetes.api.server import Server
from tests.kubernetes.controllers.claims import Claims
from tests.kubernetes.controllers.garbage import Garbage, Namespaces
from tests.kubernetes.controllers.ipujobs import IpuJobs
from tests.kubernetes.controllers.jobs import Jobs
from tests.kubernetes.controllers.manager import Manager, Pace
from tests.kubernetes.controllers.nodes import Nodes
from tests.kubernetes.controllers.scheduling import Scheduler
from tests.kubernetes.controllers.workloads import Deployments, ReplicaSets


def make_manager(server: Server, pace: Pace) -> Manager:
    """All controllers of a cluster, not yet started."""
    return Manager(
        server,
        [
            Deployments(server),
            ReplicaSets(server),
            Jobs(server, pace),
            IpuJobs(server),
            Claims(server),
            Scheduler(server),
            Nodes(server, pace),
            Garbage(server),
            Namespaces(server),
        ],
    )
