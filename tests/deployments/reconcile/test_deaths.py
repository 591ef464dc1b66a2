"""What is kept of replicas that died: found once, gathered without getting in the way, kept in bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deployments.clusters.errors import ClusterUnreachable
from deployments.clusters.port import ObservedEvent
from deployments.reconcile.problems import incident_of
from deployments.reconcile.reconciler import Outcome
from deployments.reconcile.signatures import SIGNATURES, recognize
from deployments.reconcile.termination import TerminationReason
from deployments.serving.models import PostMortem
from deployments.serving.postmortems import KEPT_PER_RESOURCE
from tests.deployments.reconcile.memory_cluster import failing
from tests.deployments.reconcile.workloads import World

DIED = TerminationReason.CRASHED
MISCONFIGURED = TerminationReason.BAD_CONFIGURATION
CAUSES = [
    (
        DIED,
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB",
        "accelerator-out-of-memory",
    ),
    (TerminationReason.OUT_OF_MEMORY, "", "host-out-of-memory"),
    (DIED, "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried", "host-out-of-memory"),
    (DIED, "huggingface_hub.errors.GatedRepoError: 401 Client Error.", "bad-token"),
    (DIED, "CUDA driver version is insufficient for CUDA runtime version", "driver-mismatch"),
    (DIED, "RuntimeError: No CUDA GPUs are available", "no-accelerator"),
    (DIED, "FileNotFoundError: [Errno 2] No such file or directory: 'tokenizer.json'", "missing-file"),
    (
        TerminationReason.BAD_CONFIGURATION,
        "wrong configuration: model.safetensors has sha256 a, but the manifest says b",
        "corrupt-weights",
    ),
    (TerminationReason.WEIGHTS_CORRUPT, "", "corrupt-weights"),
    (DIED, "OSError: [Errno 28] No space left on device", "disk-full"),
    (DIED, "[Errno 98] error while attempting to bind on address: address already in use", "port-in-use"),
    (TerminationReason.KILLED, "Unhealthy Startup probe failed: HTTP probe failed", "probe-too-short"),
    (
        TerminationReason.BAD_CONFIGURATION,
        "wrong configuration: RUNTIME_DTYPE='x' is not usable",
        "wrong-arguments",
    ),
    (TerminationReason.BAD_INPUT, "", "bad-data"),
    (TerminationReason.NODE_LOST, "", "node-lost"),
]


@pytest.mark.parametrize(("end", "line", "cause"), CAUSES)
def test_it_recognizes_a_known_cause(end, line, cause):
    found = recognize(end=end, lines=["INFO starting", line])
    assert found is not None
    assert (found.id, bool(found.fix), found.who in ("you", "provider", "upstream")) == (cause, True, True)


def test_it_claims_to_know_nothing_of_a_death_that_nobody_understands():
    assert recognize(end=DIED, lines=["Segmentation fault"]) is None


def test_every_row_can_be_told_from_every_death():
    assert all(signature.pattern or signature.ends for signature in SIGNATURES)


def running(world: World) -> Any:
    bot = world.create_deployment()
    world.reconcile(bot)
    world.cluster.make_ready(bot.public_id)
    world.settle()
    return bot


@pytest.mark.django_db(transaction=True)
def test_a_death_is_kept_with_its_last_lines_and_events_also_after_the_deletion(world: World) -> None:
    bot = running(world)
    (pod,) = world.cluster.pods(bot.public_id)
    world.cluster.print(bot.public_id, *(f"line {n}" for n in range(100)), "CUDA out of memory")
    event = ObservedEvent(at=world.clock.now(), object=f"Pod {pod.name}", reason="BackOff", message="again")
    world.cluster.told[bot.public_id] = [event, replace(event, object="Pod another")]
    crashed_at = world.clock.advance(10)
    world.cluster.crash(bot.public_id, exit_code=1)
    world.settle()
    world.delete(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    (death,) = PostMortem.objects.filter(resource=bot.public_id)
    assert (death.reason, death.cause, death.exit_code, death.attempt) == (
        "Crashed",
        "accelerator-out-of-memory",
        1,
        1,
    )
    assert (len(death.lines), death.lines[-1]) == (50, "CUDA out of memory")
    assert [it["reason"] for it in death.events] == ["BackOff"]
    assert (death.node, death.ended_at, death.memory_limit_bytes) == ("node-1", crashed_at, 4 * 2**30)


@pytest.mark.django_db(transaction=True)
def test_logs_that_cannot_be_read_keep_nothing_from_going_on(world: World) -> None:
    bot = running(world)
    world.cluster.crash(bot.public_id, exit_code=1)
    error = ClusterUnreachable("kubelet timeout")
    world.cluster.before_call = failing(call="logs", error=error)
    assert world.reconcile(bot) is Outcome.DONE
    (death,) = PostMortem.objects.all()
    incident = incident_of(error)
    assert (death.lines, death.missing) == ([], [f"The log could not be read. (incident {incident})"])


@pytest.mark.django_db(transaction=True)
def test_each_run_that_dies_is_kept_once_and_only_so_many(world: World) -> None:
    bot = running(world)
    for _ in range(3):
        world.cluster.crash(bot.public_id, exit_code=1)
        world.settle()
        world.reconcile(bot)
    assert sorted(PostMortem.objects.values_list("attempt", flat=True)) == [1, 2, 3]
    for _ in range(KEPT_PER_RESOURCE):
        world.cluster.crash(bot.public_id, exit_code=1)
        world.settle()
    assert PostMortem.objects.count() == KEPT_PER_RESOURCE
    assert min(PostMortem.objects.values_list("attempt", flat=True)) == 4


@pytest.mark.django_db(transaction=True)
def test_whoever_was_asked_to_stop_did_not_die(world: World) -> None:
    bot = running(world)
    world.pause(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    assert not PostMortem.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_job_that_fails_leaves_a_post_mortem(world: World) -> None:
    job = world.create_job(retries=0)
    world.reconcile(job)
    world.cluster.start(job.public_id)
    world.settle()
    world.cluster.finish(job.public_id, exit_code=137, reason="OOMKilled")
    world.settle()
    (death,) = PostMortem.objects.filter(resource=job.public_id)
    assert (death.reason, death.cause, death.fix["who"]) == ("OutOfMemory", "host-out-of-memory", "you")
