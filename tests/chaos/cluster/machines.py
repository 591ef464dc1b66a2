"""The nodes and what runs on them, on the virtual clock: kubelets that report what the dice decide.

Used in the API server's thread. A kubelet that cannot reach the API server goes on, and reports later.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from deployments.clusters.port import RESOURCE_LABEL, REVISION_LABEL
from tests.kubernetes.api.server import Deletion, Server, Write
from tests.kubernetes.api.store import Stored
from tests.kubernetes.controllers.pods import with_condition
from tests.kubernetes.kubelet.nodes import Node
from tests.kubernetes.kubelet.statuses import Container, pod_status

KUBELET = "kubelet"
NODES = 4
CONFIGURATION_ERROR = 78
"""`runtimes.contract.ExitCode.BAD_CONFIGURATION`: trying again is no help."""

Pod = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """Something that a container will do, if nothing comes between."""

    at: datetime
    what: str
    """start, ready, unready, exit or gone."""
    code: int = 0
    reason: str = ""


@dataclass
class Life:
    """One pod as its kubelet knows it."""

    resource: str
    revision: str
    node: str
    is_job: bool
    began: datetime
    containers: list[Container]
    plan: list[Event] = field(default_factory=list)
    phase: str = "Pending"
    status: dict[str, Any] = field(default_factory=dict)
    is_reported: bool = True
    is_going: bool = False
    is_gone: bool = False

    @property
    def main(self) -> Container:
        return self.containers[0]

    @property
    def runs(self) -> bool:
        return self.main.started_at is not None and self.main.exit_code is None and not self.main.waiting


class Machines:
    """All kubelets."""

    def __init__(self, server: Server, *, now: Callable[[], datetime]) -> None:
        self._server, self._now = server, now
        self._pods, self._nodes = server.kinds["Pod"], server.kinds["Node"]
        self.dice = random.Random()
        self.lives: dict[str, Life] = {}
        """By uid."""
        self.down: set[str] = set()
        self.skews: dict[str, timedelta] = {}
        """How far a node's clock is ahead."""
        self.broken: set[tuple[str, str]] = set()
        """(resource, revision) of those that cannot start."""
        self.results: Callable[[str], None] = lambda resource: None
        """Called when a run of a job ends well: writes what it leaves behind."""
        self.is_cut_off = False
        """The API server is not there."""
        for number in range(NODES):
            self._register(f"node-{number}")

    def _register(self, name: str) -> None:
        node = Node(name=name, capacity={"cpu": "64", "memory": "256Gi"})
        self._server.create(self._nodes, "", node.manifest())
        stored = self._server.get(self._nodes, "", name)
        self._server.set_status(stored, node.status(since=self._server.stamp()), manager=KUBELET)

    @property
    def is_idle(self) -> bool:
        """Nothing is about to happen by itself."""
        return not any(
            life.plan or not life.is_reported or life.is_gone
            for life in self.lives.values()
            if (life.resource, life.revision) not in self.broken
        )

    # --- What happens --------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Lets everything happen that is due, and reports it."""
        pods = {
            pod.uid: pod for pod in self._server.store.each(self._pods) if pod.value["spec"].get("nodeName")
        }
        for uid in self.lives.keys() - pods.keys():
            del self.lives[uid]
        for uid, pod in pods.items():
            if pod.value["spec"]["nodeName"] in self.down:
                continue
            life = self.lives.get(uid)
            if life is None:
                if self.is_cut_off:
                    continue
                life = self.lives[uid] = self._begin(pod)
            if pod.is_deleting and not life.is_going and not self.is_cut_off:
                life.is_going = True
                life.plan = self._farewell(life)
            self._live(life)
            if not self.is_cut_off:
                self._report(pod, life)

    def _begin(self, pod: Stored) -> Life:
        owner = (pod.metadata.get("ownerReferences") or [{}])[0]
        containers = [
            Container(name=item["name"], image=item["image"]) for item in pod.value["spec"]["containers"]
        ]
        life = Life(
            resource=pod.labels.get(RESOURCE_LABEL, ""),
            revision=pod.labels.get(REVISION_LABEL, ""),
            node=pod.value["spec"]["nodeName"],
            is_job=owner.get("kind") == "Job",
            began=self._now(),
            containers=containers,
        )
        if (pod.value.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            life.plan = self._start(life, self._now())
        return life

    def _start(self, life: Life, at: datetime) -> list[Event]:
        """The next run of the containers."""
        at += timedelta(seconds=self.dice.uniform(0, 15))
        plan = [Event(at, "start")]
        at += timedelta(seconds=self.dice.uniform(0, 40))
        if (life.resource, life.revision) in self.broken:
            return [*plan, Event(at, "exit", CONFIGURATION_ERROR)]
        if not life.is_job:
            return [*plan, Event(at, "ready")]
        at += timedelta(seconds=self.dice.uniform(5, 120))
        return [*plan, Event(at, "exit", self.dice.choice((0, 0, 0, 70)))]

    def _farewell(self, life: Life) -> list[Event]:
        """A kubelet reports a last phase before it lets a pod go, of one that never ran too (KEP-3329): a Job
        with a policy for failures makes no other pod before that.
        """
        at = self._now() + timedelta(seconds=self.dice.choice((0, 0, self.dice.uniform(0, 30))))
        if life.runs and (life.is_job or self.dice.random() < 0.5):
            return [
                Event(at, "exit", self.dice.choice((0, 143)) if not life.is_job else 75),
                Event(at, "gone"),
            ]
        if life.is_job and life.main.exit_code is None:
            return [Event(at, "exit", 137, "ContainerStatusUnknown"), Event(at, "gone")]
        return [Event(at, "gone")]

    def _live(self, life: Life) -> None:
        while life.plan and life.plan[0].at <= self._now():
            event = life.plan.pop(0)
            if event.what == "gone":
                life.is_gone = True
                continue
            self._change(life, event)

    def _change(self, life: Life, event: Event) -> None:
        at = event.at + self.skews.get(life.node, timedelta())
        changes: dict[str, Any]
        if event.what == "exit":
            changes = {
                "exit_code": event.code,
                "reason": event.reason,
                "started_at": life.main.started_at or at,
                # A clock that was set back does not end a run before it began.
                "finished_at": max(at, life.main.started_at or at),
                "ready": False,
                "started": False,
            }
        elif event.what == "start":
            ended = life.main if life.main.exit_code is not None else None
            changes = {
                "started_at": at,
                "exit_code": None,
                "finished_at": None,
                "reason": "",
                "waiting": "",
                "last": replace(ended, last=None) if ended else life.main.last,
                "restarts": life.main.restarts + (1 if ended else 0),
            }
        else:
            changes = {"ready": event.what == "ready", "started": True}
        life.containers = [replace(item, **changes) for item in life.containers]
        life.phase = "Running"
        if event.what == "exit":
            if life.is_job or life.is_going:
                life.phase = "Failed" if event.code else "Succeeded"
                life.plan = [item for item in life.plan if item.what == "gone"]
                if event.code == 0 and life.is_job:
                    self.results(life.resource)
            else:
                pause = timedelta(seconds=10 * 2 ** min(life.main.restarts, 5))
                life.plan = self._start(life, event.at + pause)
        life.status = _without_nothing(
            pod_status(
                {"status": life.status},
                life.containers,
                phase=life.phase,
                ip="10.0.0.1",
                started_at=life.began,
                now=at,
            )
        )
        life.is_reported = False

    def _report(self, pod: Stored, life: Life) -> None:
        if not life.is_reported:
            # A kubelet's word replaces what it said before, and leaves what others say.
            others = [
                item
                for item in (pod.value.get("status") or {}).get("conditions") or ()
                if item["type"] in ("PodScheduled", "DisruptionTarget")
            ]
            status = {**life.status, "conditions": [*others, *life.status["conditions"]]}
            pod = self._server.set_status(pod, status, manager=KUBELET)
            life.is_reported = True
        if life.is_gone:
            self._server.delete(self._pods, *pod.key, Deletion(grace_seconds=0, uid=pod.uid))
            # The object may stay while finalizers hold it.
            life.is_gone = False

    # --- What is done to them ------------------------------------------------------------------------------

    def strike(self) -> str:
        """Something happens to one random container; in words, empty if there is none."""
        running = [life for life in self.lives.values() if life.runs and life.node not in self.down]
        if not running:
            return ""
        life = self.dice.choice(sorted(running, key=lambda item: (item.resource, item.began, item.node)))
        if life.is_going:
            return ""
        kinds = ["crash", "oom", "fail"] if life.is_job else ["crash", "oom", "unready", "kill"]
        what, now = self.dice.choice(kinds), self._now()
        if what == "unready":
            if not life.main.ready:
                return ""
            life.plan = [
                Event(now, "unready"),
                Event(now + timedelta(seconds=self.dice.uniform(1, 90)), "ready"),
            ]
        elif life.main.restarts < 2:  # more would count as hopeless
            code, reason = {"oom": (137, "OOMKilled"), "kill": (137, ""), "fail": (70, "")}.get(what, (1, ""))
            life.plan = [Event(now, "exit", code, reason)]
        else:
            return ""
        return f"{what} of a replica of {life.resource}"

    def lose_node(self) -> str:
        """A machine is lost: nobody renews its lease, so it counts as unreachable."""
        up = sorted({f"node-{number}" for number in range(NODES)} - self.down)
        if len(up) < 3:
            return ""
        name = self.dice.choice(up)
        self.down.add(name)
        self._say_node(name, "Unknown")
        return f"lost {name}"

    def recover_nodes(self) -> None:
        """Lost machines come back; what ran there has ended, and starts anew where it may."""
        for name in sorted(self.down):
            for life in self.lives.values():
                if life.node == name and life.phase == "Running" and life.main.exit_code is None:
                    farewell = [Event(self._now(), "gone")] if life.is_going else []
                    life.plan = [Event(self._now(), "exit", 255, "Unknown"), *farewell]
            self._say_node(name, "True")
        self.down.clear()

    def _say_node(self, name: str, ready: str) -> None:
        node = self._server.get(self._nodes, "", name)
        status = dict(node.value["status"])
        reason = "KubeletReady" if ready == "True" else "NodeStatusUnknown"
        status["conditions"] = with_condition(
            self._server, status["conditions"], "Ready", ready, reason=reason
        )
        self._server.set_status(node, status, manager="kube-controller-manager")

    def vandalize(self, kinds: list[str], *, resources: set[str]) -> str:
        """Somebody with kubectl deletes or edits an object of ours; in words, empty if there is none."""
        found = [
            item
            for kind in kinds
            for item in self._server.store.all(self._server.kinds[kind])
            if item.labels.get(RESOURCE_LABEL) in resources and not item.is_deleting
        ]
        if not found:
            return ""
        item = self.dice.choice(found)
        if item.kind.kind == "Deployment" and self.dice.random() < 0.5:
            patch = self.dice.choice(
                (
                    {"spec": {"replicas": self.dice.randint(0, 4)}},
                    {"spec": {"minReadySeconds": 7}},
                )
            )
            self._server.patch(item.kind, *item.key, patch, Write(manager="kubectl-edit"))
            return f"edited {item.kind.kind} {item.name}"
        # As kubectl asks for it: what is owned goes too, or is left behind.
        policy = self.dice.choice(("Background", "Foreground", "Orphan"))
        self._server.delete(item.kind, *item.key, Deletion(propagation=policy))
        return f"deleted {item.kind.kind} {item.name} ({policy})"


def _without_nothing(status: dict[str, Any]) -> dict[str, Any]:
    conditions = [
        {name: value for name, value in item.items() if value is not None} for item in status["conditions"]
    ]
    return {name: value for name, value in status.items() if value is not None} | {"conditions": conditions}
