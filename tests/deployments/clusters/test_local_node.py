"""The local node against kill -9: of itself, of a shim, of a container. Nothing is lost or runs twice."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from deployments.clusters.local import attempts
from deployments.clusters.local.attempts import Attempt, Trace
from deployments.clusters.port import ObjectRef
from tests.deployments.clusters import manifests
from tests.deployments.clusters.manifests import container, deployment, job, probe, server
from tests.deployments.clusters.nodes import all_ready, get, kill, pods, texts, wait_for_pods
from tests.processes import is_alive, wait_until

RESOURCE = "dep_one"
JOB = "ftj_one"


def start_serving(node, **options):
    node.cluster.apply(deployment(RESOURCE, **options))
    return wait_for_pods(node.cluster, RESOURCE, all_ready(options.get("replicas", 1)))


# --- The node is killed -------------------------------------------------------------------------------------


def test_a_killed_node_finds_its_containers_again(node):
    before = start_serving(node, replicas=2)
    processes = {process.pid for process in node.processes()}
    node.kill()
    assert [get(pod, "/ready") for pod in before] == ["ready", "ready"]

    node.start()
    node.cluster.apply(deployment(RESOURCE, replicas=3))
    after = wait_for_pods(node.cluster, RESOURCE, all_ready(3))
    assert before == [pod for pod in after if pod.uid in {old.uid for old in before}]
    assert processes < {process.pid for process in node.processes()}


def test_a_node_learns_exactly_when_a_container_ended_while_it_was_dead(node):
    [pod] = start_serving(node)
    [main] = [process for process in node.processes() if process.pid == int(get(pod, "/pid"))]
    node.kill()
    about = datetime.now(UTC)
    main.kill()
    exit_file = node.cluster.store.attempts(pod.uid) / "1.exit"
    wait_until(exit_file.exists, what="the shim's last word")

    node.start()
    [again] = wait_for_pods(node.cluster, RESOURCE, lambda found: found[0].ready and found[0].restarts == 1)
    assert (again.uid, again.started_at, again.exit_code) == (pod.uid, pod.started_at, 137)
    [record] = node.cluster.store.read_pods()
    ended = datetime.fromtimestamp(json.loads(exit_file.read_text())["finished_at"], tz=UTC)
    assert timedelta(0) < ended - about < timedelta(seconds=5)
    assert record.attempt_started_at >= ended


def test_wishes_made_while_the_node_was_dead_come_true(node):
    start_serving(node)
    node.kill()
    node.cluster.delete(ObjectRef.of(deployment(RESOURCE)))
    node.cluster.apply(job(JOB, container("print", "done")))
    assert [pod.ready for pod in pods(node.cluster, RESOURCE)] == [True]

    node.start()
    wait_until(lambda: node.cluster.observe(RESOURCE).is_empty, what="the end of the deployment")
    wait_for_pods(node.cluster, JOB, lambda found: found and found[0].phase == "Succeeded")
    assert node.processes() == []


def test_a_job_that_ends_while_the_node_is_dead_is_not_run_again(node, tmp_path):
    count, unready = tmp_path / "count", tmp_path / "go"
    spec = container("-c", f"while [ ! -e {unready} ]; do sleep 0.05; done; echo x >> {count}; exit 65")
    node.cluster.apply(job(JOB, spec | {"command": ["sh"]}))
    [pod] = wait_for_pods(node.cluster, JOB, lambda found: found and found[0].started_at)
    node.kill()
    unready.touch()
    wait_until(lambda: node.processes() == [], what="the end of the container")

    node.start()
    [ended] = wait_for_pods(node.cluster, JOB, lambda found: found[0].phase == "Failed")
    assert (ended.uid, ended.exit_code) == (pod.uid, 65)
    assert count.read_text() == "x\n"


def test_a_machine_that_went_down_ends_its_pods_and_makes_new_ones(node):
    [pod] = start_serving(node)
    node.kill()
    for process in node.processes():
        process.kill()
    went_down = datetime.now(UTC)

    node.start()
    lost, new = wait_for_pods(node.cluster, RESOURCE, lambda found: len(found) == 2 and found[1].ready)
    assert (lost.uid, lost.phase, lost.reason, lost.ready) == (pod.uid, "Failed", "NodeLost", False)
    assert pod.ready_at <= lost.finished_at <= went_down  # not billed for what cannot be shown
    assert new.uid != pod.uid


def test_two_nodes_never_run_at_once(node):
    [pod] = start_serving(node)
    node.kill()
    racers = [node.spawn() for _ in range(3)]
    try:
        wait_until(lambda: sum(racer.poll() is None for racer in racers) == 1, what="one winner")
        assert [racer.returncode for racer in racers if racer.returncode is not None] == [1, 1]
        [winner] = [racer for racer in racers if racer.returncode is None]
        assert f'already has a node process: {{"pid": {winner.pid}}}' in node.log()
        node.cluster.apply(deployment(RESOURCE, replicas=2))
        found = wait_for_pods(node.cluster, RESOURCE, all_ready(2))
        assert pod in found
        assert len(node.processes()) == 4  # two shims, two containers
    finally:
        for racer in racers:
            racer.terminate()
            racer.wait(timeout=30)


@pytest.mark.parametrize("seed", range(2))
def test_killing_the_node_at_any_moment_doubles_and_loses_nothing(node, tmp_path, seed):
    chance = random.Random(seed)
    for number in range(6):
        count = tmp_path / f"count-{number}"
        node.cluster.apply(job(f"ftj_{number}", container("exit", "0", env={"COUNT_FILE": str(count)})))
        node.cluster.apply(deployment(RESOURCE, replicas=number % 3))
        time.sleep(chance.uniform(0, 0.2))  # the moment of the kill, not a wait for anything
        node.kill()
        node.start()
    resources = [f"ftj_{number}" for number in range(6)]
    for resource in resources:
        wait_for_pods(node.cluster, resource, lambda found: [pod.phase for pod in found] == ["Succeeded"])
    wait_for_pods(node.cluster, RESOURCE, all_ready(2))
    assert [(tmp_path / f"count-{number}").read_text() for number in range(6)] == ["x"] * 6
    wait_until(lambda: len(node.processes()) == 4, what="two shims with a container each, and no more")


# --- A shim or a container is killed ------------------------------------------------------------------------


def test_a_container_dies_with_its_shim_and_is_started_again(node):
    [pod] = start_serving(node, spec=container("linger", readinessProbe=probe()))
    [_, grandchild] = texts(node.cluster.logs(RESOURCE))[0].split()
    main = int(get(pod, "/pid"))
    kill(node.shim_pid(pod))

    [again] = wait_for_pods(node.cluster, RESOURCE, lambda found: found[0].ready and found[0].restarts == 1)
    assert (again.uid, again.exit_code) == (pod.uid, 137)
    assert not is_alive(main)
    assert not is_alive(int(grandchild))
    assert int(get(again, "/pid")) != main


def test_a_killed_container_is_started_again(node):
    [pod] = start_serving(node)
    kill(int(get(pod, "/pid")))
    [again] = wait_for_pods(node.cluster, RESOURCE, lambda found: found[0].ready and found[0].restarts == 1)
    assert (again.uid, again.exit_code) == (pod.uid, 137)
    assert len(node.processes()) == 2


def test_nothing_that_a_container_started_outlives_it(node):
    [pod] = start_serving(node, spec=container("linger", readinessProbe=probe()))
    [_, grandchild] = texts(node.cluster.logs(RESOURCE))[0].split()
    assert is_alive(int(grandchild))
    node.cluster.delete(ObjectRef.of(deployment(RESOURCE)))
    wait_until(lambda: node.cluster.observe(RESOURCE).is_empty, what="the end of it")
    assert not is_alive(int(grandchild))
    assert node.processes() == []
    assert not node.cluster.store.volumes(pod.uid).exists()


def test_no_run_is_started_twice(tmp_path):
    instruction = {
        "command": ["sleep", "1000"],
        "environment": dict(os.environ),
        "directory": "/",
        "log": str(tmp_path / "log"),
        "grace_seconds": 5,
    }
    assert attempts.trace(tmp_path, 1) is Trace.NONE
    first = Attempt.start(tmp_path, 1, instruction)
    try:
        with pytest.raises(FileExistsError):
            Attempt.start(tmp_path, 1, instruction)
        wait_until(lambda: first.started_at is not None, what="the shim's start")
        assert attempts.trace(tmp_path, 1) is Trace.ALIVE
        adopted = Attempt.adopt(tmp_path, 1)
        assert adopted.pid == first.pid
        adopted.stop()
        adopted.release()
    finally:
        first.stop()
        first.close()
    assert attempts.trace(tmp_path, 1) is Trace.ENDED
    assert attempts.read_exit(tmp_path, 1) == replace(
        attempts.read_exit(tmp_path, 1), code=128 + signal.SIGTERM, stopped=True
    )
    assert Attempt.adopt(tmp_path, 1) is None


def test_a_command_that_is_not_there_says_so_in_the_log(node):
    spec = container() | {"command": ["/no/such/program"]}
    node.cluster.apply(job(JOB, spec, retries=0))
    [pod] = wait_for_pods(node.cluster, JOB, lambda found: found and found[0].phase == "Failed")
    assert pod.exit_code == 127
    [line] = texts(node.cluster.logs(JOB))
    assert line.startswith("cannot start /no/such/program")


# --- The node goes down -------------------------------------------------------------------------------------


def test_a_node_that_goes_down_takes_its_pods_with_it_and_makes_new_ones_later(node):
    [pod] = start_serving(node, spec=server({"STOP_SECONDS": "0.3"}))
    node.stop()
    assert node.processes() == []
    [ended] = pods(node.cluster, RESOURCE)
    assert ended == replace(
        pod,
        phase="Failed",
        ready=False,
        reason="Terminated",
        message="Pod was terminated in response to imminent node shutdown.",
        exit_code=0,
        ready_changed_at=ended.ready_changed_at,
        last_end_at=ended.finished_at,
        last_run_at=pod.started_at,
        last_end_reason="Completed",
        finished_at=ended.finished_at,
    )
    assert pod.ready_at < ended.ready_changed_at <= ended.finished_at
    assert node.cluster.nodes()[0].ready is False

    node.start()
    [_, new] = wait_for_pods(node.cluster, RESOURCE, lambda found: len(found) == 2 and found[1].ready)
    assert new.uid != pod.uid
    assert node.cluster.observe(RESOURCE).objects[0].status["readyReplicas"] == 1


def test_a_job_goes_on_after_the_node_went_down_and_that_does_not_count(node, tmp_path):
    node.cluster.apply(job(JOB, server({"STOP_CODE": "1"}), retries=0))
    [first] = wait_for_pods(node.cluster, JOB, all_ready())
    node.stop()
    node.start()
    [ended, second] = wait_for_pods(node.cluster, JOB, lambda found: len(found) == 2 and found[1].ready)
    assert (ended.uid, ended.phase, ended.exit_code) == (first.uid, "Failed", 1)
    assert node.cluster.observe(JOB).objects[0].status["failed"] == 0


def test_a_node_that_goes_down_does_not_wait_for_long_grace_periods(node):
    start_serving(node, spec=server({"IGNORE_TERM": "1"}), grace=600)
    node.stop()
    assert node.processes() == []
    [ended] = pods(node.cluster, RESOURCE)
    assert (ended.phase, ended.reason, ended.exit_code) == ("Failed", "Terminated", 137)


def test_a_node_that_is_down_leaves_no_process_and_no_lock(node):
    start_serving(node, replicas=2)
    node.stop()
    assert node.processes() == []
    locks = [node.cluster.store.node_lock, *node.cluster.store.root.glob("attempts/*/*.json")]
    assert len(locks) == 3
    assert [path for path in locks if attempts.is_locked(path)] == []


def test_the_command_runs_a_node_and_refuses_a_second(node):
    node.stop()
    command = [sys.executable, "manage.py", "localcluster"]
    settings = {
        "MARKETPLACE_HOME": str(node.home),
        "LOCAL_CLUSTER_CPU": "3",
        "LOCAL_CLUSTER_MEMORY": "4Gi",
        "LOCAL_CLUSTER_IMAGES": str(node.home / "images.json"),
    }
    node.start(node.spawn_command(command, **settings))
    [pod] = start_serving(node)
    assert node.cluster.nodes()[0].allocatable == {"cpu": 3000, "memory": 4 * 2**30}
    assert node.spawn_command(command, **settings).wait(timeout=30) == 1
    assert "CommandError" in node.log()
    assert "already has a node process" in node.log()
    node.stop()
    assert node.processes() == []


# --- A settled node is silent -------------------------------------------------------------------------------


def snapshot(folder):
    """Every file below the folder with the time of its last change, logs of containers aside."""
    files = (path for path in folder.rglob("*") if "logs" not in path.parts and "volumes" not in path.parts)
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_settled_node_writes_nothing_and_sleeps(node):
    start_serving(node, replicas=3)
    node.cluster.apply(job(JOB))
    node.cluster.apply(deployment("dep_lost", container("serve", image="nobody/nothing")))
    wait_for_pods(node.cluster, JOB, lambda found: found and found[0].phase == "Succeeded")
    wait_for_pods(node.cluster, "dep_lost", lambda found: found and found[0].reason == "ImagePullBackOff")
    process = psutil.Process(node.process.pid)
    before, used = snapshot(node.cluster.store.root), process.cpu_times()
    time.sleep(2)  # the period in which nothing may happen
    assert snapshot(node.cluster.store.root) == before
    busy = sum(process.cpu_times()[:2]) - sum(used[:2])
    assert busy < 0.1  # seconds of 2, with three containers asked once a second


# --- Capacity, places, logs ---------------------------------------------------------------------------------


def test_an_object_that_makes_no_sense_does_not_stop_the_others(node):
    bad = deployment("dep_bad") | {"spec": {"replicas": "many"}}
    bad["metadata"] |= {"uid": "bad", "generation": 1}
    with node.cluster.store.changing_objects():
        node.cluster.store.write_object(bad)
    start_serving(node)
    assert "dep-bad cannot be handled" in node.log()


def test_it_starts_after_a_power_loss_took_records(node):
    start_serving(node)
    [before] = pods(node.cluster, RESOURCE)
    node.stop()
    folder = node.cluster.store.root
    for path in (folder / "pods" / f"{before.uid}.json", folder / "objects" / "Secret@nowhere@lost.json"):
        path.write_bytes(b"")
    node.start()
    wait_for_pods(node.cluster, RESOURCE, all_ready())
    [after] = pods(node.cluster, RESOURCE)
    assert after.uid != before.uid
    assert "Secret@nowhere@lost.json is skipped" in node.log()


def test_a_waiting_pod_starts_when_room_is_made(node):
    big = server() | {"resources": {"requests": {"cpu": "40", "memory": "1Gi"}}}
    node.cluster.apply(deployment("dep_first", big))
    wait_for_pods(node.cluster, "dep_first", all_ready())
    node.cluster.apply(deployment("dep_second", big))
    [waiting] = wait_for_pods(node.cluster, "dep_second", lambda found: found and found[0].reason)
    assert (waiting.reason, waiting.message) == (
        "Unschedulable",
        "0/1 nodes are available: 1 Insufficient cpu (need 40 CPU, free 24 CPU of 64 CPU).",
    )
    node.cluster.delete(ObjectRef.of(deployment("dep_first")))
    wait_for_pods(node.cluster, "dep_second", all_ready())


def test_a_container_gets_nothing_of_the_node_s_environment(node):
    spec = server({"MODE": "fast"}, resources={"limits": {"cpu": "1500m", "memory": "64Mi"}})
    [pod] = start_serving(node, spec=spec)
    environment = json.loads(get(pod, "/environ"))
    assert environment.pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # set by Python itself
    assert set(environment) == {
        *("PATH", "HOME", "TMPDIR", "LANG", "PYTHONPATH", "PYTHONUNBUFFERED", "HOSTNAME"),
        *("OMP_NUM_THREADS", "LOCAL_CLUSTER_CONTAINER", "RUNTIME_HOST", "MODE"),
    }
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["HOME"] == str(node.cluster.store.volumes(pod.uid) / "home")
    shim = psutil.Process(node.shim_pid(pod)).environ()
    assert "a-secret" not in str(shim) + str(environment)


def test_a_container_does_not_hold_the_lock_of_its_run(node):
    [pod] = start_serving(node)
    opened = [os.readlink(file) for file in Path(f"/proc/{get(pod, '/pid')}/fd").iterdir()]
    assert [path for path in opened if str(node.home) in path] == [
        str(node.cluster.store.log(pod))
    ] * 2  # stdout, stderr


def test_a_container_sees_its_volumes_at_their_real_places(node):
    (node.storage / "models/tiny").mkdir(parents=True)
    spec = server(
        {"MODEL": "/models/tiny/config.json", "BOTH": "a=/models/tiny,b=/scratch", "NOT": "/models2"}
    )
    spec["args"] = ["serve", "--dir=/scratch/x", "/modelsx"]
    spec["volumeMounts"] = [
        {"name": "storage", "mountPath": "/models/tiny", "subPath": "models/tiny", "readOnly": True},
        {"name": "scratch", "mountPath": "/scratch"},
    ]
    volumes = [
        {"name": "storage", "persistentVolumeClaim": {"claimName": "marketplace-storage"}},
        {"name": "scratch", "emptyDir": {}},
    ]
    [pod] = start_serving(node, spec=spec, volumes=volumes)
    tiny = node.storage / "models/tiny"
    scratch = node.cluster.store.volumes(pod.uid) / "mounts/scratch"
    environment = json.loads(get(pod, "/environ"))
    assert {name: environment[name] for name in ("MODEL", "BOTH", "NOT")} == {
        "MODEL": f"{tiny}/config.json",
        "BOTH": f"a={tiny},b={scratch}",
        "NOT": "/models2",
    }
    assert json.loads(get(pod, "/args")) == [f"--dir={scratch}/x", "/modelsx"]
    assert scratch.is_dir()


def test_a_log_can_be_read_when_everything_else_is_gone(node):
    start_serving(node)
    node.cluster.delete(ObjectRef.of(deployment(RESOURCE)))
    wait_until(lambda: node.cluster.observe(RESOURCE).is_empty, what="the end of it")
    [first, last] = texts(node.cluster.logs(RESOURCE))
    assert first.startswith("serving on 127.77.")
    assert last == "stopping"


def test_a_namespace_takes_everything_in_it_away(node):
    start_serving(node)
    node.cluster.apply(manifests.service(RESOURCE))
    node.cluster.delete(ObjectRef.of(manifests.namespace()))
    wait_until(lambda: node.cluster.observe().is_empty, what="the end of everything")
    assert node.processes() == []
