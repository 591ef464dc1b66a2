"""What an API server fills in when an object leaves it out. Returns new values; what is there stays. Pure.

Only what clients can see a difference by: the defaults of pods, of what makes pods, of Services and claims.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

Value = dict[str, Any]

_NOT_READY = [
    {
        "key": f"node.kubernetes.io/{name}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }
    for name in ("not-ready", "unreachable")
]


def _with(value: Mapping[str, Any] | None, **defaults: Any) -> Value:
    given = {name: inner for name, inner in (value or {}).items() if inner is not None}
    return {**{name: inner for name, inner in defaults.items() if name not in given}, **given}


def with_defaults(kind: str, value: Mapping[str, Any]) -> Value:
    """The object as it would be stored."""
    complete = _KINDS.get(kind)
    return complete(value) if complete else dict(value)


def _deployment(value: Mapping[str, Any]) -> Value:
    spec = _with(
        value.get("spec"), replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={}
    )
    strategy = _with(spec["strategy"], type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = _with(strategy.get("rollingUpdate"), maxUnavailable="25%", maxSurge="25%")
        strategy["rollingUpdate"] = rolling
    spec["strategy"] = strategy
    return _complete(value, _template(spec))


def _replica_set(value: Mapping[str, Any]) -> Value:
    return _complete(value, _template(_with(value.get("spec"), replicas=1)))


def _job(value: Mapping[str, Any]) -> Value:
    spec = _with(
        value.get("spec"),
        backoffLimit=6,
        completionMode="NonIndexed",
        suspend=False,
        podReplacementPolicy="TerminatingOrFailed" if not _has_policy(value) else "Failed",
        manualSelector=False,
    )
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec = _template(spec)
    uid = value["metadata"].get("uid")
    if uid and not spec["manualSelector"] and "selector" not in spec:
        name = value["metadata"]["name"]
        labels = {
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": name,
            "controller-uid": uid,
            "job-name": name,
        }
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
        template = spec.get("template") or {}
        metadata = template.get("metadata") or {}
        metadata = {**metadata, "labels": {**(metadata.get("labels") or {}), **labels}}
        spec["template"] = {**template, "metadata": metadata}
        own = value["metadata"]
        value = {**value, "metadata": {**own, "labels": {**(own.get("labels") or {}), **labels}}}
    return _complete(value, spec)


def _has_policy(value: Mapping[str, Any]) -> bool:
    return bool((value.get("spec") or {}).get("podFailurePolicy"))


def _template(spec: Value) -> Value:
    template = spec.get("template")
    if not isinstance(template, Mapping) or not isinstance(template.get("spec"), Mapping):
        return spec
    return {**spec, "template": {**template, "spec": _pod_spec(template["spec"])}}


def _pod(value: Mapping[str, Any]) -> Value:
    spec = _pod_spec(value.get("spec") or {})
    spec = _with(
        spec, enableServiceLinks=True, preemptionPolicy="PreemptLowerPriority", priority=0, tolerations=[]
    )
    spec = _with(spec, serviceAccountName="default")
    spec["serviceAccount"] = spec["serviceAccountName"]
    for part in ("containers", "initContainers"):
        if spec.get(part):
            spec[part] = [_requesting(container) for container in spec[part]]
    known = {(item.get("key"), item.get("effect")) for item in spec["tolerations"]}
    missing = [item for item in _NOT_READY if (item["key"], item["effect"]) not in known]
    spec["tolerations"] = [*spec["tolerations"], *missing]
    status = _with(value.get("status"), phase="Pending", qosClass=_quality(spec))
    return {**value, "spec": spec, "status": status}


def _requesting(container: Mapping[str, Any]) -> Value:
    """Of a pod, not of a template: a limit without a request is one."""
    resources = container.get("resources") or {}
    limits = resources.get("limits")
    if not limits:
        return dict(container)
    requests = {**limits, **(resources.get("requests") or {})}
    return {**container, "resources": {**resources, "requests": requests}}


def _quality(spec: Mapping[str, Any]) -> str:
    amounts = [container.get("resources") or {} for container in spec.get("containers") or ()]
    if not any(item.get("requests") or item.get("limits") for item in amounts):
        return "BestEffort"
    names = ("cpu", "memory")
    guaranteed = all(
        (item.get("limits") or {}).get(name) is not None
        and (item.get("limits") or {}).get(name) == (item.get("requests") or {}).get(name)
        for item in amounts
        for name in names
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _pod_spec(spec: Mapping[str, Any]) -> Value:
    complete = _with(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    for name in ("containers", "initContainers"):
        if isinstance(complete.get(name), list):
            complete[name] = [_container(item) for item in complete[name]]
    if isinstance(complete.get("volumes"), list):
        complete["volumes"] = [_volume(item) for item in complete["volumes"]]
    return complete


def _volume(volume: Mapping[str, Any]) -> Value:
    complete = dict(volume)
    for name in ("secret", "configMap", "downwardAPI", "projected"):
        if isinstance(complete.get(name), Mapping):
            complete[name] = _with(complete[name], defaultMode=420)
    if isinstance(complete.get("hostPath"), Mapping):
        complete["hostPath"] = _with(complete["hostPath"], type="")
    return complete


def _container(container: Mapping[str, Any]) -> Value:
    latest = ":" not in str(container.get("image", "")).rpartition("/")[2]
    latest = (latest or str(container.get("image")).endswith(":latest")) and "@" not in str(
        container.get("image")
    )
    complete = _with(
        container,
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        imagePullPolicy="Always" if latest else "IfNotPresent",
    )
    if isinstance(complete.get("ports"), list):
        complete["ports"] = [_with(port, protocol="TCP") for port in complete["ports"]]
    if isinstance(complete.get("env"), list):
        complete["env"] = [_variable(item) for item in complete["env"]]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if isinstance(complete.get(name), Mapping):
            probe = _with(
                complete[name], timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3
            )
            if isinstance(probe.get("httpGet"), Mapping):
                probe["httpGet"] = _with(probe["httpGet"], scheme="HTTP", path="/")
            complete[name] = probe
    return complete


def _variable(variable: Mapping[str, Any]) -> Value:
    source = variable.get("valueFrom") or {}
    if not isinstance(source.get("fieldRef"), Mapping):
        return dict(variable)
    reference = _with(source["fieldRef"], apiVersion="v1")
    return {**variable, "valueFrom": {**source, "fieldRef": reference}}


def _service(value: Mapping[str, Any]) -> Value:
    spec = _with(value.get("spec"), type="ClusterIP", sessionAffinity="None", internalTrafficPolicy="Cluster")
    ports = []
    for port in spec.get("ports") or ():
        complete = _with(port, protocol="TCP", targetPort=port.get("port"))
        ports.append(complete)
    if ports:
        spec["ports"] = ports
    spec = _with(spec, ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    return {**value, "spec": spec, "status": _with(value.get("status"), loadBalancer={})}


def _namespace(value: Mapping[str, Any]) -> Value:
    metadata = value["metadata"]
    labels = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
    return {
        **value,
        "metadata": {**metadata, "labels": labels},
        "spec": _with(value.get("spec"), finalizers=["kubernetes"]),
        "status": _with(value.get("status"), phase="Active"),
    }


def _claim(value: Mapping[str, Any]) -> Value:
    spec = _with(value.get("spec"), volumeMode="Filesystem")
    return {**value, "spec": spec, "status": _with(value.get("status"), phase="Pending")}


def _volume_object(value: Mapping[str, Any]) -> Value:
    spec = _with(value.get("spec"), persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")
    if isinstance(spec.get("hostPath"), Mapping):
        spec["hostPath"] = _with(spec["hostPath"], type="")
    return {**value, "spec": spec, "status": _with(value.get("status"), phase="Pending")}


def _secret(value: Mapping[str, Any]) -> Value:
    complete = _with(value, type="Opaque")
    plain = complete.pop("stringData", None)
    if plain:
        encoded = {name: base64.b64encode(text.encode()).decode() for name, text in plain.items()}
        complete["data"] = {**(complete.get("data") or {}), **encoded}
    return complete


def _limit_range(value: Mapping[str, Any]) -> Value:
    items = []
    for item in (value.get("spec") or {}).get("limits") or ():
        limit = dict(item)
        if item.get("type") == "Container" and (item.get("default") or item.get("max")):
            limit["default"] = {**(item.get("max") or {}), **(item.get("default") or {})}
            limit["defaultRequest"] = {**limit["default"], **(item.get("defaultRequest") or {})}
        items.append(limit)
    return {**value, "spec": {**(value.get("spec") or {}), "limits": items}}


def _network_policy(value: Mapping[str, Any]) -> Value:
    spec = _with(value.get("spec"))
    if "policyTypes" not in spec:
        spec["policyTypes"] = ["Ingress", *(["Egress"] if "egress" in spec else [])]
    for direction in ("ingress", "egress"):
        if direction in spec:
            spec[direction] = [
                {**rule, "ports": [_with(port, protocol="TCP") for port in rule["ports"]]}
                if rule.get("ports")
                else dict(rule)
                for rule in spec[direction]
            ]
    return {**value, "spec": spec}


def _complete(value: Mapping[str, Any], spec: Value) -> Value:
    return {**value, "spec": spec, "status": value.get("status") or {}}


_KINDS: Mapping[str, Callable[[Mapping[str, Any]], Value]] = {
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "Job": _job,
    "Pod": _pod,
    "Service": _service,
    "Namespace": _namespace,
    "PersistentVolumeClaim": _claim,
    "PersistentVolume": _volume_object,
    "Secret": _secret,
    "LimitRange": _limit_range,
    "NetworkPolicy": _network_policy,
}
