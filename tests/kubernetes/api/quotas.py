"""ResourceQuota and LimitRange: what a namespace may hold, and what containers get that ask for nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from deployments.clusters.quantities import parse
from tests.kubernetes.api.kinds import Kind
from tests.kubernetes.api.refusals import forbidden, qualified
from tests.kubernetes.api.store import Change, Store, Stored

Amounts = Mapping[str, Decimal]


def usage(kind: Kind, value: Mapping[str, Any]) -> Amounts:
    """What one object takes of a quota, in every name that quotas use for it."""
    found: Counter[str] = Counter({f"count/{qualified(kind.plural, kind.group)}": 1})
    if not kind.group:
        found[kind.plural] = 1
    if kind.kind == "Pod":
        if (value.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return {}
        for name, amount in pod_amounts(value["spec"], "requests").items():
            found[f"requests.{name}"] += amount
            if name in ("cpu", "memory", "ephemeral-storage"):
                found[name] += amount
        for name, amount in pod_amounts(value["spec"], "limits").items():
            found[f"limits.{name}"] += amount
    elif kind.kind == "PersistentVolumeClaim":
        asked = ((value["spec"].get("resources") or {}).get("requests") or {}).get("storage")
        found["requests.storage"] += parse(asked or 0)
    return {name: Decimal(amount) for name, amount in found.items()}


def pod_amounts(spec: Mapping[str, Any], kind: str) -> dict[str, Decimal]:
    """What a pod asks for (requests or limits): its containers' sum, or more if an init container does."""
    total: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        for name, amount in ((container.get("resources") or {}).get(kind) or {}).items():
            total[name] += parse(amount)
    for container in spec.get("initContainers") or ():
        for name, amount in ((container.get("resources") or {}).get(kind) or {}).items():
            total[name] = max(total[name], parse(amount))
    return dict(total)


class Quotas:
    """Keeps what each namespace uses, and refuses what would be too much."""

    def __init__(self, store: Store, quota: Kind) -> None:
        self._store, self._quota = store, quota
        self._used: dict[str, Counter[str]] = defaultdict(Counter)
        self.stale: set[str] = set()
        """Namespaces whose ResourceQuotas show old numbers."""
        store.listeners.append(self._note)

    def check(self, kind: Kind, namespace: str, value: Mapping[str, Any]) -> None:
        """Raises Refused (403) when a quota of the namespace has no room for a new object."""
        quotas = self._store.all(self._quota, namespace)
        if not quotas:
            return
        need = usage(kind, value)
        name = value["metadata"]["name"]
        for quota in quotas:
            hard = {key: parse(amount) for key, amount in (quota.value["spec"].get("hard") or {}).items()}
            if kind.kind == "Pod" and (why := _unstated(value["spec"], hard)):
                raise forbidden(kind.plural, kind.group, name, f"failed quota: {quota.name}: {why}")
            over = [
                key
                for key in sorted(hard)
                if need.get(key) and self._of(namespace)[key] + need[key] > hard[key]
            ]
            if over:
                texts = (
                    ",".join(f"{key}={show(amounts.get(key, Decimal()))}" for key in over)
                    for amounts in (need, self._of(namespace), hard)
                )
                asked, used, limited = texts
                why = f"exceeded quota: {quota.name}, requested: {asked}, used: {used}, limited: {limited}"
                raise forbidden(kind.plural, kind.group, name, why)

    def status(self, quota: Stored) -> dict[str, Any]:
        """The status block of a ResourceQuota now."""
        hard = quota.value["spec"].get("hard") or {}
        used = self._of(quota.namespace)
        return {"hard": dict(hard), "used": {name: show(Decimal(used[name])) for name in hard}}

    def _of(self, namespace: str) -> Counter[str]:
        return self._used[namespace]

    def _note(self, change: Change) -> None:
        if change.kind is self._quota:
            if change.after is not None:
                self.stale.add(change.after.namespace)
            return
        there = change.after or change.before
        if there is None or not there.namespace:
            return
        before = usage(change.kind, change.before.value) if change.before else {}
        after = usage(change.kind, change.after.value) if change.after else {}
        if before != after:
            used = self._used[there.namespace]
            for name in {*before, *after}:
                used[name] += after.get(name, Decimal()) - before.get(name, Decimal())
            self.stale.add(there.namespace)


def _unstated(spec: Mapping[str, Any], hard: Amounts) -> str:
    """What every container must say because a quota counts it; empty when all say it."""
    lacking: dict[str, list[str]] = {}
    for key in hard:
        kind, _, name = (
            key.rpartition(".") if key.startswith(("requests.", "limits.")) else ("requests", "", key)
        )
        if name not in ("cpu", "memory"):
            continue
        for container in spec.get("containers") or ():
            if name not in ((container.get("resources") or {}).get(kind) or {}):
                lacking.setdefault(key, []).append(container["name"])
    return "; ".join(f"must specify {key} for: {','.join(names)}" for key, names in sorted(lacking.items()))


def with_limits(spec: Mapping[str, Any], ranges: list[Stored]) -> dict[str, Any]:
    """A pod spec with the defaults of the namespace's LimitRanges."""
    rules = [
        rule
        for item in ranges
        for rule in item.value["spec"].get("limits") or ()
        if rule.get("type") == "Container"
    ]
    complete = dict(spec)
    for part in ("containers", "initContainers"):
        if spec.get(part):
            complete[part] = [_limited(container, rules) for container in spec[part]]
    return complete


def _limited(container: Mapping[str, Any], rules: list[Mapping[str, Any]]) -> dict[str, Any]:
    resources = container.get("resources") or {}
    limits, requests = dict(resources.get("limits") or {}), dict(resources.get("requests") or {})
    for rule in rules:
        for name, amount in (rule.get("defaultRequest") or {}).items():
            requests.setdefault(name, amount)
        for name, amount in (rule.get("default") or {}).items():
            limits.setdefault(name, amount)
    found = {"limits": limits, "requests": requests}
    return {**container, "resources": {**resources, **{key: value for key, value in found.items() if value}}}


def check_limits(name: str, spec: Mapping[str, Any], ranges: list[Stored]) -> None:
    """Raises Refused (403) when a container asks for more or less than a LimitRange allows."""
    wrong = [text for item in ranges for text in _outside(spec, item.value["spec"].get("limits") or ())]
    if wrong:
        text = wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]"
        raise forbidden("pods", "", name, text)


def _outside(spec: Mapping[str, Any], rules: list[Mapping[str, Any]]) -> Iterator[str]:
    for rule in rules:
        if rule.get("type") != "Container":
            continue
        for container in spec.get("containers") or ():
            resources = container.get("resources") or {}
            for name, most in (rule.get("max") or {}).items():
                limit = (resources.get("limits") or {}).get(name)
                if limit is None:
                    yield f"maximum {name} usage per Container is {most}.  No limit is specified"
                elif parse(limit) > parse(most):
                    yield f"maximum {name} usage per Container is {most}, but limit is {limit}"
            for name, least in (rule.get("min") or {}).items():
                request = (resources.get("requests") or {}).get(name)
                if request is None:
                    yield f"minimum {name} usage per Container is {least}.  No request is specified"
                elif parse(request) < parse(least):
                    yield f"minimum {name} usage per Container is {least}, but request is {request}"


def show(amount: Decimal) -> str:
    """A quantity as quotas write it: 2, 500m, 64Gi."""
    if amount != amount.to_integral_value():
        return f"{int(amount * 1000)}m"
    number = int(amount)
    for power, suffix in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if number and number % 1024**power == 0:
            return f"{number // 1024**power}{suffix}"
    return str(number)
