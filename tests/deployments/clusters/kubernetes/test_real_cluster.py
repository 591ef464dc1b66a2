"""What only a real API server can show: who owns fields, what an account may do, how watches behave."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
from kubernetes import client

from deployments.clusters.errors import (
    ClusterConflict,
    ClusterForbidden,
    ClusterNoCapacity,
    ClusterRejected,
)
from deployments.clusters.kubernetes import cluster as implementation
from deployments.clusters.kubernetes import watching
from deployments.clusters.kubernetes.cluster import KubernetesCluster
from deployments.clusters.kubernetes.credentials import open_client
from deployments.clusters.kubernetes.settings import Settings
from deployments.clusters.port import ObjectRef
from deployments.reconcile.steps import plan_steps
from tests.deployments.clusters import manifests
from tests.deployments.clusters.manifests import deployment, job, server, service
from tests.processes import wait_until

pytestmark = pytest.mark.cluster


@pytest.fixture
def admin(kubeconfig):
    """The official client as somebody else uses it."""
    with open_client(Settings(kubeconfig=kubeconfig), connections=2) as opened:
        yield opened


def steps(cluster, *wanted):
    resource = wanted[0]["metadata"]["labels"]["marketplace/resource"]
    return [str(step) for step in plan_steps(wanted, cluster.observe(resource), unwanted="not wanted")]


def test_what_was_applied_is_settled_and_applying_it_again_changes_nothing(real, new_id):
    wanted = [deployment(resource := new_id("dep")), service(resource), job(new_id("ftj"))]
    for manifest in wanted:
        real.apply(manifest)
    wait_until(lambda: real.observe(resource).pods, what="the Deployment's pod")
    before = real.observe(resource)
    assert steps(real, *wanted[:2]) == []
    assert steps(real, wanted[2]) == []
    for manifest in wanted[:2]:
        real.apply(manifest)
    assert real.observe(resource).objects == before.objects


CONTAINER = "/spec/template/spec/containers/0"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ([{"op": "replace", "path": "/spec/replicas", "value": 3}], "it was changed by somebody"),
        ([{"op": "replace", "path": f"{CONTAINER}/image", "value": "evil:1"}], "it was changed by somebody"),
        ([{"op": "add", "path": f"{CONTAINER}/env/-", "value": {"name": "ADDED", "value": "1"}}], "it was "),
        ([{"op": "add", "path": "/spec/template/spec/hostNetwork", "value": True}], "it was changed by"),
        (
            [{"op": "remove", "path": f"{CONTAINER}/readinessProbe"}],
            "somebody has changed or removed spec.template.spec.containers[main].readinessProbe",
        ),
        (
            [{"op": "remove", "path": "/metadata/labels/marketplace~1revision"}],
            "somebody has changed or removed metadata.labels.marketplace/revision",
        ),
    ],
)
def test_an_edit_by_somebody_else_is_seen_and_healed(real, admin, new_id, edit, reason):
    wanted = deployment(new_id("dep"))
    name = wanted["metadata"]["name"]
    real.apply(wanted)
    apps = client.AppsV1Api(admin)
    before = apps.read_namespaced_deployment(name, manifests.NAMESPACE).spec.to_dict()
    apps.patch_namespaced_deployment(name, manifests.NAMESPACE, edit, field_manager="somebody")

    assert steps(real, wanted)[0].startswith(f"apply {ObjectRef.of(wanted)}: {reason}")
    real.apply(wanted)
    assert steps(real, wanted) == []
    assert apps.read_namespaced_deployment(name, manifests.NAMESPACE).spec.to_dict() == before


def test_a_scale_by_somebody_else_is_seen_and_healed(real, admin, new_id):
    wanted = deployment(new_id("dep"), replicas=0)
    apps, name = client.AppsV1Api(admin), wanted["metadata"]["name"]
    real.apply(wanted)
    apps.patch_namespaced_deployment_scale(name, manifests.NAMESPACE, {"spec": {"replicas": 2}})
    assert len(steps(real, wanted)) == 1
    real.apply(wanted)
    assert steps(real, wanted) == []
    assert apps.read_namespaced_deployment(name, manifests.NAMESPACE).spec.replicas == 0


def test_a_restart_by_staff_and_notes_of_theirs_are_left_alone(real, admin, new_id):
    wanted = deployment(new_id("dep"))
    real.apply(wanted)
    note = {"metadata": {"annotations": {"note": "looked at"}}}
    client.AppsV1Api(admin).patch_namespaced_deployment(
        wanted["metadata"]["name"], manifests.NAMESPACE, {**note, "spec": {"template": note}}
    )
    assert steps(real, wanted) == []


def test_another_installation_on_the_cluster_sees_none_of_ours(real, kubeconfig, new_id):
    real.apply(deployment(resource := new_id("dep")))
    other = KubernetesCluster(
        name="other", configuration={"kubeconfig": kubeconfig, "installation": "test-another"}
    )
    assert other.observe(resource).is_empty
    assert other.observe().is_empty


def test_a_list_in_pages_is_the_whole_list(real, new_id, monkeypatch):
    for _ in range(5):
        real.apply(service(new_id("dep")))

    def mine():
        return [item for item in real.observe().objects if item.ref.namespace == manifests.NAMESPACE]

    whole = mine()
    assert len(whole) == 5
    monkeypatch.setattr(implementation, "PAGE", 2)
    assert mine() == whole


def test_a_full_observation_makes_as_many_calls_for_many_as_for_one(real, new_id, monkeypatch):
    calls = []
    get = implementation.Connection.get

    def counted(self, path, **more):
        calls.append(path)
        return get(self, path, **more)

    monkeypatch.setattr(implementation.Connection, "get", counted)
    counts = []
    for _ in range(3):
        real.apply(service(new_id("dep")))
        calls.clear()
        real.observe()
        counts.append(len(calls))
    assert counts[1:] == [len(set(calls))] * 2


def test_deleting_waits_for_the_pods_and_is_seen_to(real, new_id):
    wanted = deployment(resource := new_id("dep"))
    real.apply(wanted)
    wait_until(lambda: real.observe(resource).pods, what="the Deployment's pod")
    real.delete(ObjectRef.of(wanted))
    real.delete(ObjectRef.of(wanted))
    wait_until(lambda: real.observe(resource).is_empty, what="the end of it")
    real.delete(ObjectRef.of(wanted))


@pytest.mark.parametrize("make", [deployment, job], ids=["Deployment", "Job"])
def test_pods_that_somebody_has_left_behind_are_ended(real, admin, limited, new_id, make):
    wanted = make(resource := new_id("dep"))
    real.apply(wanted)
    wait_until(lambda: real.observe(resource).pods, what="its pod")
    assert steps(real, wanted) == []
    _leave_pods(admin, wanted)
    wait_until(lambda: not real.observe(resource).objects, what="the end of the object alone")

    [pod] = real.observe(resource).pods
    for step in plan_steps((), real.observe(resource), unwanted="not wanted"):
        limited.delete(step.ref)
    assert [it for it in real.observe(resource).pods if it.deleting_since is None] == []
    wait_until(lambda: real.observe(resource).is_empty, what="the end of the pods")


def test_a_deployment_that_is_made_again_takes_its_pods_back(real, admin, new_id):
    wanted = deployment(resource := new_id("dep"))
    real.apply(wanted)
    wait_until(lambda: real.observe(resource).pods, what="its pod")
    _leave_pods(admin, wanted)
    wait_until(lambda: not real.observe(resource).objects, what="the end of the object alone")
    before = real.observe(resource).pods

    [step] = plan_steps([wanted], real.observe(resource), unwanted="not wanted")
    real.apply(step.manifest)
    wait_until(
        lambda: all(it.status.get("replicas") == 1 for it in real.observe(resource).objects), what="its pods"
    )
    assert [pod.uid for pod in real.observe(resource).pods] == [pod.uid for pod in before]


def _leave_pods(admin, manifest):
    """As kubectl delete --cascade=orphan."""
    apps, batch = client.AppsV1Api(admin), client.BatchV1Api(admin)
    delete = {"Deployment": apps.delete_namespaced_deployment, "Job": batch.delete_namespaced_job}
    options = client.V1DeleteOptions(propagation_policy="Orphan")
    delete[manifest["kind"]](manifest["metadata"]["name"], manifests.NAMESPACE, body=options)


def test_an_object_on_its_way_out_is_not_brought_back(real, admin, new_id):
    wanted = deployment(new_id("dep"))
    real.apply(wanted)
    held = {"metadata": {"finalizers": ["test.example/held"]}}
    apps, name = client.AppsV1Api(admin), wanted["metadata"]["name"]
    apps.patch_namespaced_deployment(name, manifests.NAMESPACE, held)
    real.delete(ObjectRef.of(wanted))
    [found] = real.observe(wanted["metadata"]["labels"]["marketplace/resource"]).objects
    assert found.deleting_since is not None
    assert "test.example/held" in found.finalizers
    with pytest.raises(ClusterConflict, match="is being deleted"):
        real.apply(wanted)
    apps.patch_namespaced_deployment(name, manifests.NAMESPACE, {"metadata": {"finalizers": None}})


def test_refusals_say_what_and_where(real, new_id):
    wanted = deployment(new_id("dep"))
    misspelt = {**wanted, "spec": {**wanted["spec"], "replics": 2}}
    with pytest.raises(ClusterRejected, match="replics") as found:
        real.apply(misspelt)
    assert found.value.field == "spec.replics"

    nowhere = {**wanted, "metadata": {**wanted["metadata"], "namespace": "nowhere"}}
    with pytest.raises(ClusterRejected, match='namespaces "nowhere" not found') as found:
        real.apply(nowhere)
    assert found.value.field == "metadata.namespace"

    run = job(new_id("ftj"))
    real.apply(run)
    with pytest.raises(ClusterRejected, match="immutable") as found:
        real.apply(job(run["metadata"]["labels"]["marketplace/resource"], server()))
    assert found.value.field == "spec.template"

    other = service(new_id("dep"))
    other["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(ClusterConflict, match="uid"):
        real.apply(other)

    emoji = {**wanted, "metadata": {**wanted["metadata"], "annotations": {"note": "🙂"}}}
    real.apply(emoji)


def test_a_quota_that_is_used_up_is_no_capacity(real, new_id):
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {
            "name": "q",
            "namespace": manifests.NAMESPACE,
            "labels": {"app.kubernetes.io/managed-by": "marketplace"},
        },
        "spec": {"hard": {"count/services": "0"}},
    }
    real.apply(quota)

    refusals = []

    def is_refused():
        try:
            real.apply(service(new_id("dep")))
        except ClusterNoCapacity as error:
            refusals.append(str(error))
        return bool(refusals)

    wait_until(is_refused, what="the quota to be counted")
    assert "exceeded quota: q" in refusals[0]
    [found] = [item for item in real.observe().objects if item.ref.kind == "ResourceQuota"]
    assert found.resource == ""


@contextmanager
def watched(cluster):
    stop, seen = threading.Event(), []
    thread = threading.Thread(target=lambda: seen.extend(cluster.watch(stop)), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        began = time.monotonic()
        stop.set()
        thread.join(timeout=10)
        assert not thread.is_alive()
        assert time.monotonic() - began < 3


def change_until_seen(cluster, new_id, seen):
    """Makes changes until one is seen. What comes before a watch has begun is the sweep's."""
    made = set()

    def is_seen():
        made.add(resource := new_id("dep"))
        cluster.apply(service(resource))
        return bool(made & set(seen))

    wait_until(is_seen, what="a change")
    return made


def test_a_watch_tells_what_changed_and_ends_when_told(real, new_id):
    wait_until(lambda: not real.observe().resources, what="the end of what other tests have made")
    with watched(real) as seen:
        made = change_until_seen(real, new_id, seen)
    assert set(seen) <= made


def test_a_watch_that_falls_silent_is_opened_again(real, new_id, monkeypatch):
    rounds = []
    follow = watching.Watching._round

    def counted(self, kind, version):
        rounds.append(kind.plural)
        return follow(self, kind, version)

    monkeypatch.setattr(watching.Watching, "_round", counted)
    monkeypatch.setattr(watching.Watching.__init__, "__kwdefaults__", {"silence_seconds": 0.3})
    with watched(real) as seen:
        wait_until(lambda: rounds.count("services") >= 3, what="a third round")
        change_until_seen(real, new_id, seen)


def test_a_watch_whose_place_is_forgotten_goes_on(real, new_id, monkeypatch):
    asked = []
    now = watching.Watching._now

    def first_forgotten(self, kind):
        asked.append(kind.plural)
        return "1" if asked.count(kind.plural) == 1 else now(self, kind)

    monkeypatch.setattr(watching.Watching, "_now", first_forgotten)
    with watched(real) as seen:
        change_until_seen(real, new_id, seen)
    assert asked.count("services") == 2


def test_events_say_why_nothing_runs(real, new_id):
    wanted = deployment(resource := new_id("dep"))
    wanted["spec"]["template"]["spec"]["nodeSelector"] = {"test.example/nowhere": "yes"}
    real.apply(wanted)

    def told():
        return [event for event in real.events(resource) if event.reason == "FailedScheduling"]

    wait_until(lambda: bool(told()), what="the scheduler's word")
    found = told()
    assert found[0].object.startswith(f"Pod {wanted['metadata']['name']}-")
    assert found[0].warning
    [pod] = real.observe(resource).pods
    assert (pod.phase, pod.reason, pod.scheduled_at) == ("Pending", "Unschedulable", None)
    assert real.logs(resource) == []
    assert real.logs(resource, pod="gone") == []


# --- What the account may do -----------------------------------------------------------------------------


def test_the_account_may_do_what_is_listed_and_nothing_else(real, admin, limited, new_id):
    wanted = [deployment(resource := new_id("dep")), service(resource)]
    limited.apply(manifests.namespace(manifests.NAMESPACE))
    for manifest in wanted:
        limited.apply(manifest)
    stop = threading.Event()
    changes = limited.watch(stop)
    limited.apply(service(other := new_id("dep")))
    wait_until(lambda: limited.observe(resource).pods, what="the Deployment's pod")
    limited.observe()
    limited.nodes()
    limited.events(resource)
    assert limited.logs(resource) == []
    stop.set()
    assert list(changes) == []
    for manifest in (*wanted, service(other)):
        limited.delete(ObjectRef.of(manifest))

    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "default"}}
    with pytest.raises(ClusterForbidden, match="secrets"):
        limited.apply(secret)
    bare = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}
    with open_client(limited.settings, connections=2) as account:
        core, rights = client.CoreV1Api(account), client.RbacAuthorizationV1Api(account)
        for forbidden in (
            lambda: core.list_secret_for_all_namespaces(),
            lambda: core.read_namespaced_secret("a", "kube-system"),
            lambda: core.list_config_map_for_all_namespaces(),
            lambda: core.connect_post_namespaced_pod_exec("a", manifests.NAMESPACE, command=["sh"]),
            lambda: core.create_namespaced_pod("kube-system", bare),
            lambda: core.delete_node("a"),
            lambda: core.create_namespaced_service_account_token("a", "kube-system", {"spec": {}}),
            lambda: rights.create_cluster_role({"metadata": {"name": "a"}, "rules": []}),
        ):
            with pytest.raises(client.ApiException) as refused:
                forbidden()
            assert refused.value.status == 403
