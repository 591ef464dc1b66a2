"""What every implementation of the cluster port must do. Written once, run against each."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deployments.clusters.errors import ClusterConflict, ClusterRejected
from deployments.clusters.port import ObjectRef, ObservedPod
from tests.deployments.clusters import manifests
from tests.deployments.clusters.manifests import container, deployment, job, probe, server, service
from tests.deployments.clusters.nodes import all_ready, get, pods, texts, wait_for_pods
from tests.processes import wait_until


def status(cluster, manifest):
    """The status block of an object, None when it is not there."""
    ref = ObjectRef.of(manifest)
    return next((item.status for item in cluster.observe().objects if item.ref == ref), None)


def condition(cluster, manifest):
    """(type, reason) of a Job's end, None while it goes on."""
    found = (status(cluster, manifest) or {}).get("conditions") or ()
    ends = [(item["type"], item["reason"]) for item in found if item["type"] in ("Complete", "Failed")]
    return ends[0] if ends else (None, None)


def wait_for_end(cluster, manifest):
    wait_until(lambda: condition(cluster, manifest)[0] is not None, what="the end of the Job")
    return condition(cluster, manifest)


# --- Serving ------------------------------------------------------------------------------------------------


def test_it_runs_a_deployment_until_it_is_ready(cluster, new_id):
    resource = new_id("dep")
    cluster.apply(deployment(resource))
    [pod] = wait_for_pods(cluster, resource, all_ready())

    assert get(pod, "/ready") == "ready"
    assert pod.created_at <= pod.scheduled_at <= pod.image_pulled_at <= pod.started_at <= pod.ready_at
    assert pod == ObservedPod(
        uid=pod.uid,
        name=pod.name,
        namespace=manifests.NAMESPACE,
        resource=resource,
        revision=1,
        phase="Running",
        created_at=pod.created_at,
        scheduled_at=pod.scheduled_at,
        started_at=pod.started_at,
        ready_at=pod.ready_at,
        ready=True,
        ready_changed_at=pod.ready_at,
        image_pulled_at=pod.image_pulled_at,
        node=cluster.nodes()[0].name,
        address=pod.address,
        owner=pod.owner,
        ends_with=pod.ends_with,
    )
    assert pod.address.endswith(f":{manifests.PORT}")
    [found] = cluster.observe(resource).objects
    assert (found.spec_hash, found.revision, found.deleting_since) == ("hash-1", 1, None)
    assert found.status["readyReplicas"] == 1


def test_it_is_not_ready_before_its_probe_says_so(cluster, new_id, tmp_path):
    resource, unready = new_id("dep"), tmp_path / "unready"
    unready.touch()
    cluster.apply(deployment(resource, server({"UNREADY_FILE": str(unready)})))
    [pod] = wait_for_pods(cluster, resource, lambda found: found and found[0].started_at)
    wait_until(lambda: texts(cluster.logs(resource)) != [], what="the container's first line")
    assert (pod.phase, pod.ready, pod.ready_at) == ("Running", False, None)

    unready.unlink()
    wait_for_pods(cluster, resource, all_ready())


def test_it_notices_when_a_container_is_no_longer_ready(cluster, new_id, tmp_path):
    resource, unready = new_id("dep"), tmp_path / "unready"
    readiness = probe(failureThreshold=1)
    cluster.apply(deployment(resource, server({"UNREADY_FILE": str(unready)}, readinessProbe=readiness)))
    [before] = wait_for_pods(cluster, resource, all_ready())
    settled = before.started_at + timedelta(seconds=4)
    wait_until(lambda: datetime.now(UTC) > settled, what="the end of a start, in whole seconds")

    unready.touch()
    [after] = wait_for_pods(cluster, resource, lambda found: not found[0].ready)
    assert after.ready_changed_at >= before.ready_changed_at  # Kubernetes counts in whole seconds
    assert after.ready_at in (before.ready_at, None)  # Kubernetes forgets it; the reconciler does not
    changed = {"ready_at": after.ready_at, "ready_changed_at": after.ready_changed_at}
    assert after == replace(before, ready=False, **changed)


def test_it_applies_the_same_twice_and_changes_nothing(cluster, new_id):
    resource = new_id("dep")
    cluster.apply(deployment(resource))
    wait_for_pods(cluster, resource, all_ready())
    before = _as_applied(cluster.observe(resource))
    cluster.apply(deployment(resource))
    assert _as_applied(cluster.observe(resource)) == before


def _as_applied(seen):
    """Without what controllers report a little later; a change of the object would raise its generation."""
    kept = ("observedGeneration",)
    objects = [replace(item, status={name: item.status.get(name) for name in kept}) for item in seen.objects]
    return objects, seen.pods


def test_it_scales_up_and_down(cluster, new_id):
    resource = new_id("dep")
    cluster.apply(deployment(resource, replicas=1))
    [first] = wait_for_pods(cluster, resource, all_ready(1))
    cluster.apply(deployment(resource, replicas=3))
    three = wait_for_pods(cluster, resource, all_ready(3))
    assert first in three
    assert len({pod.address for pod in three}) == 3

    cluster.apply(deployment(resource, replicas=0))
    wait_for_pods(cluster, resource, lambda found: found == [])
    wait_until(lambda: not status(cluster, deployment(resource)).get("replicas"), what="a status of none")


def test_it_replaces_a_pod_only_when_the_new_one_is_ready(cluster, new_id, tmp_path):
    resource, unready = new_id("dep"), tmp_path / "unready"
    unready.touch()
    cluster.apply(deployment(resource))
    [old] = wait_for_pods(cluster, resource, all_ready())

    cluster.apply(deployment(resource, server({"UNREADY_FILE": str(unready)})))
    both = wait_for_pods(
        cluster, resource, lambda found: len(found) == 2 and all(p.started_at for p in found)
    )
    assert [pod.uid for pod in both if pod.ready] == [old.uid]

    unready.unlink()
    [new] = wait_for_pods(cluster, resource, all_ready(1))
    assert new.uid != old.uid


def test_it_keeps_a_service_beside_its_deployment(cluster, new_id):
    resource = new_id("dep")
    cluster.apply(service(resource))
    [found] = cluster.observe(resource).objects
    assert (found.ref, found.spec_hash) == (ObjectRef.of(service(resource)), "hash-1")


# --- Containers that fail -----------------------------------------------------------------------------------


def test_it_restarts_a_container_that_ends_and_says_how_it_ended(cluster, new_id):
    resource = new_id("dep")
    cluster.apply(deployment(resource, container("exit", "3")))
    [pod] = wait_for_pods(cluster, resource, lambda found: found and found[0].restarts == 1)
    [pod] = wait_for_pods(cluster, resource, lambda found: found[0].reason == "CrashLoopBackOff")
    assert (pod.phase, pod.exit_code, pod.ready, pod.finished_at) == ("Running", 3, False, None)
    assert "exit code 3" in pod.message


def test_it_restarts_a_container_that_is_no_longer_alive(cluster, new_id, tmp_path):
    resource, sick = new_id("dep"), tmp_path / "sick"
    liveness = probe("/live", failureThreshold=1)
    spec = server({"SICK_FILE": str(sick)}, startupProbe=probe(), livenessProbe=liveness)
    cluster.apply(deployment(resource, spec))
    [before] = wait_for_pods(cluster, resource, all_ready())
    sick.touch()
    wait_for_pods(cluster, resource, lambda found: found[0].exit_code is not None)
    sick.unlink()
    [after] = wait_for_pods(cluster, resource, all_ready())
    assert (after.uid, after.started_at) == (before.uid, before.started_at)
    assert after.ready_at >= before.ready_at  # of Kubernetes' conditions only the last change is known
    assert after.restarts >= 1


def test_it_restarts_a_container_that_never_gets_up(cluster, new_id):
    resource = new_id("dep")
    never = probe("/nowhere", failureThreshold=1, initialDelaySeconds=1)
    cluster.apply(deployment(resource, server(startupProbe=never)))
    [pod] = wait_for_pods(cluster, resource, lambda found: found and found[0].exit_code is not None)
    assert not pod.ready
    assert pod.ready_at is None


def test_it_names_an_image_that_does_not_exist(cluster, new_id):
    resource = new_id("dep")
    cluster.apply(deployment(resource, container("serve", image="nobody/nothing:9")))
    [pod] = wait_for_pods(cluster, resource, lambda found: found and "nobody/nothing:9" in found[0].message)
    assert (pod.phase, pod.started_at) == ("Pending", None)
    assert pod.reason in ("ErrImagePull", "ImagePullBackOff")


def test_it_says_in_numbers_why_a_pod_does_not_fit(cluster, new_id):
    resource = new_id("dep")
    cluster.apply(deployment(resource, container("serve", cpu="5000", memory="9Ti")))
    [pod] = wait_for_pods(cluster, resource, lambda found: found and found[0].reason)
    assert (pod.phase, pod.reason, pod.scheduled_at) == ("Pending", "Unschedulable", None)
    assert "Insufficient cpu" in pod.message
    assert "Insufficient memory" in pod.message


# --- Jobs ---------------------------------------------------------------------------------------------------


def test_it_runs_a_job_once(cluster, new_id):
    resource = new_id("ftj")
    cluster.apply(job(resource, container("print", "one", "two")))
    assert wait_for_end(cluster, job(resource)) == ("Complete", "CompletionsReached")
    [pod] = pods(cluster, resource)
    assert (pod.phase, pod.exit_code, pod.reason, pod.revision) == ("Succeeded", 0, "Completed", None)
    assert pod.started_at <= pod.finished_at
    assert texts(cluster.logs(resource)) == ["one", "two"]
    assert status(cluster, job(resource))["succeeded"] == 1


def test_it_does_not_retry_a_job_with_bad_input(cluster, new_id):
    resource = new_id("ftj")
    cluster.apply(job(resource, container("exit", "65")))
    assert wait_for_end(cluster, job(resource)) == ("Failed", "PodFailurePolicy")
    assert [(pod.phase, pod.exit_code) for pod in pods(cluster, resource)] == [("Failed", 65)]


def test_it_retries_a_job_that_failed_until_it_is_enough(cluster, new_id):
    resource = new_id("ftj")
    cluster.apply(job(resource, container("exit", "70"), retries=1))
    assert wait_for_end(cluster, job(resource)) == ("Failed", "BackoffLimitExceeded")
    assert [pod.exit_code for pod in pods(cluster, resource)] == [70, 70]


def test_it_does_not_count_a_run_that_was_stopped(cluster, new_id, tmp_path):
    resource = new_id("ftj")
    spec = container("exit", "75", "0", env={"COUNT_FILE": str(tmp_path / "count")})
    cluster.apply(job(resource, spec, retries=0))
    assert wait_for_end(cluster, job(resource)) == ("Complete", "CompletionsReached")
    assert status(cluster, job(resource)).get("failed", 0) == 0
    # Made within one second, which is all that Kubernetes tells: in no order.
    assert sorted(pod.exit_code for pod in pods(cluster, resource)) == [0, 75]


# --- Deletion -----------------------------------------------------------------------------------------------


def test_it_deletes_a_deployment_with_its_pods(cluster, new_id):
    resource = new_id("dep")
    for manifest in (deployment(resource, replicas=2), service(resource)):
        cluster.apply(manifest)
    wait_for_pods(cluster, resource, all_ready(2))
    for manifest in (deployment(resource), service(resource)):
        cluster.delete(ObjectRef.of(manifest))
    wait_until(lambda: cluster.observe(resource).is_empty, what="the end of all of it")


def test_it_does_not_mind_deleting_what_is_gone(cluster, new_id):
    cluster.delete(ObjectRef.of(deployment(new_id("dep"))))


def test_it_gives_a_container_its_grace_to_end(cluster, new_id):
    resource = new_id("dep")
    cluster.apply(deployment(resource, server({"STOP_SECONDS": "0.5"}), grace=20))
    [pod] = wait_for_pods(cluster, resource, all_ready())
    cluster.delete(ObjectRef.of(deployment(resource)))
    [leaving] = wait_for_pods(cluster, resource, lambda found: found and found[0].deleting_since)
    assert (leaving.uid, leaving.ready) == (pod.uid, False)
    [found] = cluster.observe(resource).objects
    assert found.deleting_since is not None
    wait_until(lambda: cluster.observe(resource).is_empty, seconds=10, what="the end of it")


def test_it_kills_a_container_that_ignores_its_grace(cluster, new_id):
    resource = new_id("dep")
    cluster.apply(deployment(resource, server({"IGNORE_TERM": "1"}), grace=1))
    wait_for_pods(cluster, resource, all_ready())
    cluster.delete(ObjectRef.of(deployment(resource)))
    wait_until(lambda: cluster.observe(resource).is_empty, seconds=10, what="the end of it")


# --- Observing ----------------------------------------------------------------------------------------------


def test_it_observes_one_resource_as_part_of_all(cluster, new_id):
    one, other = new_id("dep"), new_id("dep")
    for resource in (one, other):
        cluster.apply(deployment(resource))
        wait_for_pods(cluster, resource, all_ready())
    everything = cluster.observe()
    assert everything.resources == {one, other}
    assert everything.of(one) == cluster.observe(one)
    assert not cluster.observe(one).is_empty
    assert "Namespace" in {item.ref.kind for item in everything.objects if item.resource == ""}


def test_it_looks_for_a_resource_in_the_namespaces_that_it_is_told_and_nowhere_else(cluster, new_id):
    resource = new_id("dep")
    cluster.apply(deployment(resource))
    wait_for_pods(cluster, resource, all_ready())
    here, elsewhere = manifests.NAMESPACE, "org-nobody"
    within = cluster.observe(resource, namespaces=[here, elsewhere])
    assert _as_applied(within) == _as_applied(cluster.observe(resource))
    assert texts(cluster.logs(resource, namespaces=[here])) == texts(cluster.logs(resource))
    assert cluster.events(resource, namespaces=[here]) == cluster.events(resource)
    assert cluster.observe(resource, namespaces=[elsewhere]).is_empty


def test_it_numbers_the_lines_of_a_log(cluster, new_id):
    resource = new_id("ftj")
    cluster.apply(job(resource, container("print", "a", "b", "c", "d")))
    wait_for_end(cluster, job(resource))
    assert [(line.number, line.text) for line in cluster.logs(resource, after=1, limit=2)] == [
        (2, "b"),
        (3, "c"),
    ]
    assert [(line.number, line.text) for line in cluster.logs(resource, after=3)] == [(4, "d")]
    assert cluster.logs(resource, after=4) == []
    for after, limit, expected in [(0, 2, "cd"), (0, 3, "bcd"), (3, 2, "d"), (0, 9, "abcd"), (4, 2, "")]:
        assert texts(cluster.logs(resource, after=after, limit=limit, tail=True)) == list(expected)
    assert cluster.logs(resource, limit=1, tail=True)[0].number == 4
    [pod] = pods(cluster, resource)
    assert texts(cluster.logs(resource, pod=pod.uid)) == ["a", "b", "c", "d"]
    assert cluster.logs(resource, pod="another") == []


def test_it_has_no_log_of_what_it_does_not_know(cluster):
    assert cluster.logs("dep_unknown") == []


def test_it_tells_who_watches_what_changed(cluster, new_id):
    resource, stop, seen = new_id("ftj"), threading.Event(), set()
    changes = cluster.watch(stop)

    def follow():
        seen.update(changes)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        cluster.apply(job(resource))
        wait_for_end(cluster, job(resource))
    finally:
        stop.set()
        thread.join(timeout=10)
    assert not thread.is_alive()
    assert seen == {resource}


def test_it_shows_what_its_nodes_have_and_what_is_taken(cluster, new_id):
    before = cluster.nodes()
    resource = new_id("dep")
    cluster.apply(deployment(resource, server() | container("serve", cpu="1500m", memory="1Gi")))
    wait_for_pods(cluster, resource, lambda found: found and found[0].scheduled_at)
    [node] = cluster.nodes()
    assert node.ready
    assert node.allocatable == before[0].allocatable
    assert node.requested == {"cpu": 1500, "memory": 2**30}


# --- What a container sees ----------------------------------------------------------------------------------


def test_it_tells_a_container_about_its_pod_and_gives_it_secrets(cluster, new_id):
    resource = new_id("dep")
    labels = manifests.labels(resource)
    for kind, data in (("Secret", {"token": "c2VjcmV0"}), ("ConfigMap", {"mode": "fast"})):
        metadata = {"name": f"{kind.lower()}-{resource.replace('_', '-')}", "namespace": manifests.NAMESPACE}
        cluster.apply(
            {"apiVersion": "v1", "kind": kind, "metadata": metadata | {"labels": labels}, "data": data}
        )
    name = resource.replace("_", "-")
    spec = server(args=["serve", "$(MODE)", "$(UNKNOWN)", "$$(MODE)"])
    spec["env"] += [
        {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": f"secret-{name}", "key": "token"}}},
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": f"configmap-{name}", "key": "mode"}}},
    ]
    cluster.apply(deployment(resource, spec))
    [pod] = wait_for_pods(cluster, resource, all_ready())
    environment = json.loads(get(pod, "/environ"))
    seen = {name: environment[name] for name in ("POD_UID", "POD_NAME", "TOKEN", "MODE", "RUNTIME_HOST")}
    assert seen == {
        "POD_UID": pod.uid,
        "POD_NAME": pod.name,
        "TOKEN": "secret",
        "MODE": "fast",
        "RUNTIME_HOST": pod.address.partition(":")[0],
    }
    assert json.loads(get(pod, "/args")) == ["fast", "$(UNKNOWN)", "$(MODE)"]


# --- Refusals -----------------------------------------------------------------------------------------------


def test_an_object_in_a_namespace_that_is_not_there_is_a_conflict(cluster, new_id):
    """We make a namespace before what lies in it, so that somebody has deleted it since."""
    manifest = deployment(new_id("dep"))
    manifest["metadata"]["namespace"] = "nowhere"
    with pytest.raises(ClusterConflict, match='namespaces "nowhere" not found'):
        cluster.apply(manifest)


def test_it_refuses_to_bring_back_what_is_being_deleted(cluster, new_id):
    resource = new_id("dep")
    cluster.apply(deployment(resource, server({"STOP_SECONDS": "1"})))
    wait_for_pods(cluster, resource, all_ready())
    cluster.delete(ObjectRef.of(deployment(resource)))
    with pytest.raises(ClusterConflict, match="being deleted"):
        cluster.apply(deployment(resource, replicas=2))


def test_it_refuses_a_change_meant_for_another_object(cluster, new_id):
    resource = new_id("dep")
    manifest = service(resource)
    manifest["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(ClusterConflict, match="uid"):
        cluster.apply(manifest)
    assert cluster.observe(resource).is_empty


def test_it_refuses_to_change_what_a_job_runs(cluster, new_id):
    resource = new_id("ftj")
    cluster.apply(job(resource))
    with pytest.raises(ClusterRejected, match="immutable") as refused:
        cluster.apply(job(resource, container("exit", "1")))
    assert (refused.value.field, refused.value.permanent) == ("spec.template", True)


def test_a_refused_manifest_changes_nothing(cluster, new_id):
    resource = new_id("dep")
    manifest = deployment(resource)
    manifest["spec"]["replics"] = 2
    with pytest.raises(ClusterRejected, match="replics"):
        cluster.apply(manifest)
    assert cluster.observe(resource).is_empty
