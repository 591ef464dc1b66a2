"""What the stand-in's controllers, scheduler and kubelets make of objects."""

from __future__ import annotations

import pytest

from tests.kubernetes.api.refusals import Refused
from tests.kubernetes.controllers.ipujobs import install_ipu_operator
from tests.kubernetes.kubelet.nodes import Node, bare_metal, poplar
from tests.kubernetes.kubelet.scripted import Exit, Ready, Running, Unready, Wait

_READY = (Ready(),)


def template(name, *, restart="Always", gpus=0, **more):
    limits = {"cpu": "1", "memory": "1Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    container = {"name": "main", "image": "a:1", "resources": {"limits": limits}}
    spec = {"restartPolicy": restart, "containers": [container], "terminationGracePeriodSeconds": 2, **more}
    return {"metadata": {"labels": {"app": name}}, "spec": spec}


def deployment(name, *, replicas=1, **more):
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": template(name, **more),
    }
    return {"spec": spec}


def job(name, *, rules=(), **spec):
    policy = {"podFailurePolicy": {"rules": list(rules)}} if rules else {}
    return {"spec": {"template": template(name, restart="Never"), **policy, **spec}}


def ready(hands, name):
    return (hands.get("Deployment", name)["status"] or {}).get("readyReplicas", 0)


def pods(hands, app):
    return [pod for pod in hands.all("Pod") if (pod["metadata"].get("labels") or {}).get("app") == app]


def why_not_scheduled(pod):
    found = [item for item in pod.get("status", {}).get("conditions", ()) if item["type"] == "PodScheduled"]
    return found[0].get("message", "") if found else ""


# --- Deployments --------------------------------------------------------------------------------------------


def test_a_deployment_makes_its_pods_again_and_again(hands):
    hands.apply("Deployment", "web", **deployment("web", replicas=2))
    hands.wait(lambda: ready(hands, "web") == 2, "two ready pods")
    [first, _] = pods(hands, "web")
    hands.delete("Pod", first["metadata"]["name"])
    hands.wait(
        lambda: (
            ready(hands, "web") == 2
            and first["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in pods(hands, "web")}
        ),
        "another pod in its place",
    )


def test_a_new_template_takes_over_only_when_it_is_ready(hands):
    hands.scripted.script = _ready_unless("slow")
    hands.apply("Deployment", "web", **deployment("web"))
    hands.wait(lambda: ready(hands, "web") == 1, "the first pod")
    [old] = pods(hands, "web")
    hands.apply("Deployment", "web", **deployment("web", hostname="slow"))
    hands.wait(lambda: len(pods(hands, "web")) == 2, "the second pod")
    assert old["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in pods(hands, "web")}
    [new] = [pod for pod in pods(hands, "web") if pod["metadata"]["uid"] != old["metadata"]["uid"]]
    hands.wait(lambda: new["metadata"]["uid"] in hands.scripted.lives, "its begin")
    hands.play(new, *_READY)
    hands.wait(
        lambda: [pod["metadata"]["uid"] for pod in pods(hands, "web")] == [new["metadata"]["uid"]],
        "the end of the old one",
    )
    conditions = hands.wait(lambda: hands.conditions("Deployment", "web"), "conditions")
    assert conditions["Available"]["status"] == "True"


def test_a_deployment_says_when_it_does_not_get_on(hands):
    hands.scripted.script = lambda pod, run: [Running()]
    wish = deployment("web")
    wish["spec"]["progressDeadlineSeconds"] = 1
    hands.apply("Deployment", "web", **wish)
    hands.wait(
        lambda: (
            hands.conditions("Deployment", "web").get("Progressing", {}).get("reason")
            == "ProgressDeadlineExceeded"
        ),
        "the deadline",
    )


def test_a_quota_keeps_pods_from_being_made_and_says_so(hands):
    hands.apply("ResourceQuota", "q", spec={"hard": {"requests.nvidia.com/gpu": "1"}})
    hands.apply("Deployment", "web", **deployment("web", replicas=2, gpus=1))
    failure = hands.wait(lambda: hands.conditions("Deployment", "web").get("ReplicaFailure"), "the failure")
    assert "exceeded quota: q, requested: requests.nvidia.com/gpu=1" in failure["message"]
    assert "FailedCreate" in {event["reason"] for event in hands.all("Event")}

    hands.apply("ResourceQuota", "q", spec={"hard": {"requests.nvidia.com/gpu": "2"}})
    hands.wait(lambda: ready(hands, "web") == 2, "both pods")


def test_a_deployment_deleted_in_the_foreground_goes_after_its_pods(hands):
    hands.scripted.stop_seconds = 0.3
    hands.apply("Deployment", "web", **deployment("web"))
    hands.wait(lambda: ready(hands, "web") == 1, "the pod")
    hands.delete("Deployment", "web", propagation="Foreground")
    [pod] = hands.wait(
        lambda: [pod for pod in pods(hands, "web") if pod["metadata"].get("deletionTimestamp")], "the request"
    )
    assert hands.get("Deployment", "web")["metadata"]["finalizers"] == ["foregroundDeletion"]
    hands.wait(lambda: hands.get("Deployment", "web") is None, "the end of it")
    assert pods(hands, "web") == []


# --- Scheduling ---------------------------------------------------------------------------------------------


def test_the_scheduler_says_in_numbers_why_nothing_fits_and_tries_again(hands):
    hands.fleet.add(bare_metal("metal-1", gpus=8))
    hands.apply("Deployment", "first", **deployment("first", gpus=2))
    hands.wait(lambda: ready(hands, "first") == 1, "the first pod")
    hands.apply("Deployment", "second", **deployment("second", gpus=2))
    message = hands.wait(
        lambda: (
            any(map(why_not_scheduled, pods(hands, "second"))) and why_not_scheduled(pods(hands, "second")[0])
        ),
        "the reason",
    )
    nodes = "0/2 nodes are available"
    assert message == (
        f"{nodes}: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint(s). no new claims to "
        f"deallocate, preemption: {nodes}: 1 No preemption victims found for incoming pod, "
        "1 Preemption is not helpful for scheduling."
    )
    hands.delete("Deployment", "first")
    hands.wait(lambda: ready(hands, "second") == 1, "the room that was freed")


def test_pods_go_where_selector_and_tolerations_send_them(hands):
    hands.fleet.add(bare_metal("metal-1", gpus=8))
    place = {
        "nodeSelector": {"node-class": "bare-metal"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    }
    hands.apply("Deployment", "web", **deployment("web", gpus=4, **place))
    hands.wait(lambda: ready(hands, "web") == 1, "the pod")
    assert [pod["spec"]["nodeName"] for pod in pods(hands, "web")] == ["metal-1"]


def test_a_pod_waits_for_its_claim(hands):
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    hands.apply("Deployment", "web", **deployment("web", volumes=[volume]))
    message = hands.wait(lambda: why_not_scheduled((pods(hands, "web") or [{}])[0]), "the reason")
    assert message == '0/1 nodes are available: persistentvolumeclaim "data" not found. not found'
    access = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    hands.apply(
        "PersistentVolume", "v1", spec={**access, "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}
    )
    asked = {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": "v1"}
    hands.apply("PersistentVolumeClaim", "data", spec={**access, **asked})
    hands.wait(lambda: ready(hands, "web") == 1, "the pod")


# --- Nodes --------------------------------------------------------------------------------------------------


def test_the_pods_of_a_lost_node_are_not_ready_and_come_back_elsewhere(hands):
    hands.apply("Deployment", "web", **deployment("web"))
    hands.wait(lambda: ready(hands, "web") == 1, "the pod")
    [lost] = pods(hands, "web")
    hands.fleet.add(Node(name="gpu-2", capacity={"cpu": "8", "memory": "32Gi"}))
    hands.fleet.fail("gpu-1")
    hands.wait(
        lambda: (
            [pod for pod in pods(hands, "web") if pod["spec"].get("nodeName") == "gpu-2"]
            and ready(hands, "web") == 1
        ),
        "the pod on the other node",
    )
    [left] = [pod for pod in pods(hands, "web") if pod["metadata"]["uid"] == lost["metadata"]["uid"]]
    conditions = {item["type"]: item["status"] for item in left["status"]["conditions"]}
    assert (conditions["Ready"], conditions["DisruptionTarget"]) == ("False", "True")
    assert left["metadata"]["deletionTimestamp"]

    hands.fleet.recover("gpu-1")
    hands.wait(lambda: len(pods(hands, "web")) == 1, "the end of the lost one")
    hands.wait(lambda: not hands.get("Node", "gpu-1")["spec"].get("taints"), "the end of its taints")


def test_the_pods_of_a_node_that_is_taken_away_go_with_it(hands):
    hands.apply("Deployment", "web", **deployment("web"))
    hands.wait(lambda: ready(hands, "web") == 1, "the pod")
    hands.fleet.remove("gpu-1")
    hands.wait(lambda: why_not_scheduled((pods(hands, "web") or [{}])[0]), "another pod, which waits")


# --- Containers ---------------------------------------------------------------------------------------------


def test_a_container_that_crashes_is_started_again(hands):
    hands.scripted.script = lambda pod, run: [Running(), Exit(1, after=0.05)] if run < 3 else list(_READY)
    hands.apply("Deployment", "web", **deployment("web"))
    hands.wait(lambda: ready(hands, "web") == 1, "the third run")
    [pod] = pods(hands, "web")
    [container] = pod["status"]["containerStatuses"]
    assert container["restartCount"] == 2
    assert container["lastState"]["terminated"]["exitCode"] == 1


def test_a_pod_can_be_made_to_do_anything(hands):
    hands.apply("Deployment", "web", **deployment("web"))
    hands.wait(lambda: ready(hands, "web") == 1, "the pod")
    [pod] = pods(hands, "web")
    hands.play(pod, Unready())
    hands.wait(lambda: ready(hands, "web") == 0, "it is not ready")
    hands.play(pod, Wait(reason="ErrImagePull", message="no such image"))
    hands.wait(
        lambda: "waiting" in pods(hands, "web")[0]["status"]["containerStatuses"][0]["state"], "it waits"
    )


# --- Jobs ---------------------------------------------------------------------------------------------------


def test_a_job_ends_with_its_pod(hands):
    hands.apply("Job", "run", **job("run"))
    conditions = hands.wait(
        lambda: "Complete" in hands.conditions("Job", "run") and hands.conditions("Job", "run"), "the end"
    )
    assert list(conditions) == ["SuccessCriteriaMet", "Complete"]
    status = hands.get("Job", "run")["status"]
    assert (status["succeeded"], "active" in status) == (1, False)


def test_a_job_of_several_pods_gives_each_its_number(hands):
    hands.apply("Job", "run", **job("run", completionMode="Indexed", completions=3, parallelism=2))
    hands.wait(lambda: "Complete" in hands.conditions("Job", "run"), "the end")
    assert hands.get("Job", "run")["status"]["completedIndexes"] == "0-2"
    assert sorted(pod["spec"]["hostname"] for pod in pods(hands, "run")) == ["run-0", "run-1", "run-2"]


def test_a_job_is_given_up_at_once_where_its_policy_says_so(hands):
    hands.scripted.script = lambda pod, run: [Running(), Exit(78)]
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [78]}}
    hands.apply("Job", "run", **job("run", rules=[rule], backoffLimit=5))
    failed = hands.wait(lambda: hands.conditions("Job", "run").get("Failed"), "the end")
    [pod] = pods(hands, "run")
    where = f"Container main for pod default/{pod['metadata']['name']}"
    assert failed["reason"] == "PodFailurePolicy"
    assert failed["message"] == f"{where} failed with exit code 78 matching FailJob rule at index 0"


def test_a_job_deleted_without_a_word_leaves_its_pods_behind(hands):
    hands.scripted.script = lambda pod, run: [Running()]
    hands.apply("Job", "run", **job("run"))
    hands.wait(lambda: len(pods(hands, "run")) == 1, "the pod")
    hands.delete("Job", "run")
    hands.wait(lambda: hands.get("Job", "run") is None, "the end of the Job")
    [pod] = pods(hands, "run")
    assert "ownerReferences" not in pod["metadata"]


# --- Graphcore's operator -----------------------------------------------------------------------------------


def ipu_job(name, ipus="4", instances=1):
    spec = {"jobInstances": instances, "ipusPerJobInstance": ipus, "workers": {"template": template(name)}}
    return {"spec": spec}


def test_an_ipu_job_gets_partitions_and_workers(hands):
    hands.standin.do(install_ipu_operator)
    hands.fleet.add(poplar("poplar-1", controller="pod005"))
    hands.apply("IPUJob", "ipus", **ipu_job("ipus", instances=2))
    hands.wait(
        lambda: (hands.get("IPUJob", "ipus")["status"] or {}).get("status") == "Running", "its workers"
    )
    found = pods(hands, "ipus")
    assert [pod["metadata"]["name"] for pod in found] == ["ipus-worker-0", "ipus-worker-1"]
    assert {pod["spec"]["nodeName"] for pod in found} == {"poplar-1"}

    hands.delete("Pod", "ipus-worker-0")
    uid = found[0]["metadata"]["uid"]
    hands.wait(
        lambda: (again := hands.get("Pod", "ipus-worker-0")) and again["metadata"]["uid"] != uid,
        "the worker that comes back",
    )
    hands.delete("IPUJob", "ipus")
    hands.wait(lambda: hands.get("IPUJob", "ipus") is None and not pods(hands, "ipus"), "the end of all")


def test_an_ipu_job_without_room_waits_until_there_is_some(hands):
    hands.standin.do(install_ipu_operator)
    hands.fleet.add(poplar("poplar-1"))
    hands.apply("IPUJob", "big", **ipu_job("big", "64"))
    hands.apply("IPUJob", "late", **ipu_job("late", "1"))

    def told(name, field):
        return (hands.get("IPUJob", name).get("status") or {}).get(field)

    assert hands.wait(lambda: told("late", "lastMessage"), "the refusal") == "Failed to acquire 1 IPU(s)"
    hands.delete("IPUJob", "big")
    hands.wait(lambda: told("late", "status") == "Running", "the partition that was given back")


def test_an_ipu_job_asks_for_a_power_of_two(hands):
    hands.standin.do(install_ipu_operator)
    with pytest.raises(Refused, match="ipusPerJobInstance"):
        hands.apply("IPUJob", "odd", **ipu_job("odd", "65"))


def _ready_unless(hostname):
    return lambda pod, run: [Running()] if pod["spec"].get("hostname") == hostname else list(_READY)
