"""The stand-in's API server, by the official client and by plain HTTP."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request

import pytest

from tests.kubernetes.api.faults import Answer, Cut, Drop, Duplicate, Expire, Hang, Silence
from tests.kubernetes.standin import StandIn

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def standin():
    with StandIn(controllers=False, bookmark_seconds=0.1) as standin:
        yield standin


@pytest.fixture
def call(standin):
    """(method, path, body, content type) -> (status code, answer)"""

    def call(method, path, body=None, content="application/json", timeout=10):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content, "User-Agent": "tests/1"}
        request = urllib.request.Request(standin.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    return call


def deployment(name="web", **spec):
    container = {"name": "main", "image": "a:1", "env": [{"name": "A", "value": "1"}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def causes(answer):
    return [(cause["field"], cause["reason"]) for cause in answer["details"]["causes"]]


class Watch:
    """A watch in a thread; `events` grows."""

    def __init__(self, url):
        self.events = []
        self._answer = urllib.request.urlopen(url, timeout=5)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        try:
            for line in self._answer:
                self.events.append(json.loads(line))
        except (OSError, ValueError, http.client.HTTPException):
            return  # the stream was cut

    def seen(self):
        return [
            (event["type"], event["object"]["metadata"]["name"])
            for event in self.events
            if event["type"] in ("ADDED", "MODIFIED", "DELETED")
        ]

    def wait_for(self, count):
        deadline = time.monotonic() + 5
        while len(self.seen()) < count:
            assert time.monotonic() < deadline, self.events
            time.sleep(0.01)
        return self.seen()

    def close(self):
        self._thread.join(timeout=5)  # first: nobody may close what another thread reads
        self._answer.close()


@pytest.fixture
def watch(standin):
    opened = []

    def watch(path):
        opened.append(Watch(f"{standin.url}{path}"))
        return opened[-1]

    yield watch
    standin.go_away()
    for item in opened:
        item.close()


# --- Applying -----------------------------------------------------------------------------------------------


def test_an_apply_that_changes_nothing_keeps_the_resource_version(call):
    code, made = call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=us", deployment(), APPLY)
    assert (code, made["metadata"]["generation"]) == (201, 1)
    assert call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=us", deployment(), APPLY) == (200, made)


def test_an_apply_drops_what_it_no_longer_names(call):
    call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=us", deployment(paused=True), APPLY)
    _, after = call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=us", deployment(), APPLY)
    assert "paused" not in after["spec"]
    assert after["metadata"]["generation"] == 2


def test_an_apply_meets_what_somebody_else_has_changed(call):
    call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=us", deployment(), APPLY)
    call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=them", {"spec": {"replicas": 7}}, MERGE)
    code, refused = call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=us", deployment(), APPLY)
    assert (code, causes(refused)) == (409, [(".spec.replicas", "FieldManagerConflict")])

    code, after = call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=us&force=true", deployment(), APPLY)
    assert (code, after["spec"]["replicas"]) == (200, 1)
    assert [owner["manager"] for owner in after["metadata"]["managedFields"]] == ["us"]


def test_two_managers_own_items_of_one_list(call):
    call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=us", deployment(), APPLY)
    theirs = {"name": "main", "env": [{"name": "B", "value": "2"}]}
    patch = {"apiVersion": "apps/v1", "kind": "Deployment"}
    patch["spec"] = {"template": {"spec": {"containers": [theirs]}}}
    call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=them", patch, APPLY)
    _, after = call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=us", deployment(), APPLY)
    [container] = after["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]


def test_it_refuses_a_field_that_the_schema_does_not_have(call):
    code, refused = call("PATCH", f"{DEPLOYMENTS}/web?fieldManager=us", deployment(replics=1), APPLY)
    place = "(/web; apps/v1, Kind=Deployment)"
    text = f"failed to create typed patch object {place}: .spec.replics: field not declared in schema"
    assert (code, refused["message"]) == (500, text)


# --- Refusals -----------------------------------------------------------------------------------------------


def test_it_names_every_field_that_is_wrong(call):
    code, refused = call("POST", DEPLOYMENTS, deployment(name="Web", replicas=-1))
    assert (code, causes(refused)) == (
        422,
        [
            ("metadata.name", "FieldValueInvalid"),
            ("spec.replicas", "FieldValueInvalid"),
        ],
    )


def test_it_refuses_an_old_version_of_an_object(call):
    _, old = call("POST", CONFIG_MAPS, config_map("a", x="1"))
    call("PUT", f"{CONFIG_MAPS}/a", old | {"data": {"x": "2"}})
    code, refused = call("PUT", f"{CONFIG_MAPS}/a", old | {"data": {"x": "3"}})
    assert (code, refused["reason"]) == (409, "Conflict")


def test_it_makes_nothing_in_a_namespace_that_is_not_there_or_going(call):
    path = "/api/v1/namespaces/elsewhere"
    assert call("POST", f"{path}/configmaps", config_map("a"))[0] == 404
    call("POST", "/api/v1/namespaces", {"metadata": {"name": "elsewhere"}})
    call("POST", f"{path}/configmaps", config_map("a"))
    call("DELETE", path)
    code, refused = call("POST", f"{path}/configmaps", config_map("b"))
    assert (code, causes(refused)) == (403, [("metadata.namespace", "NamespaceTerminating")])


def test_it_refuses_what_a_quota_has_no_room_for(call):
    hard = {"requests.nvidia.com/gpu": "1"}
    call(
        "POST",
        "/api/v1/namespaces/default/resourcequotas",
        {"metadata": {"name": "q"}, "spec": {"hard": hard}},
    )
    limits = {"nvidia.com/gpu": "1"}
    container = {"name": "c", "image": "a", "resources": {"limits": limits}}

    def pod(name):
        return {"metadata": {"name": name}, "spec": {"containers": [container]}}

    assert call("POST", "/api/v1/namespaces/default/pods", pod("one"))[0] == 201
    code, refused = call("POST", "/api/v1/namespaces/default/pods", pod("two"))
    gpu = "requests.nvidia.com/gpu=1"
    why = f"exceeded quota: q, requested: {gpu}, used: {gpu}, limited: {gpu}"
    assert (code, refused["message"]) == (403, f'pods "two" is forbidden: {why}')

    call("DELETE", "/api/v1/namespaces/default/pods/one")
    assert call("POST", "/api/v1/namespaces/default/pods", pod("two"))[0] == 201


def test_an_admission_webhook_may_deny(standin, call):
    standin.reject("names.example", lambda verb, kind, value: "no maps" if kind.kind == "ConfigMap" else None)
    code, refused = call("POST", CONFIG_MAPS, config_map("a"))
    assert code == 403
    assert refused["message"] == 'admission webhook "names.example" denied the request: no maps'


# --- Lists and watches --------------------------------------------------------------------------------------


def test_it_lists_page_by_page_and_forgets_old_pages(standin, call):
    for number in range(5):
        call("POST", CONFIG_MAPS, config_map(f"m{number}"))
    _, page = call("GET", f"{CONFIG_MAPS}?limit=2")
    assert page["metadata"]["remainingItemCount"] == 3
    token = page["metadata"]["continue"]
    call("DELETE", f"{CONFIG_MAPS}/m3")
    _, rest = call("GET", f"{CONFIG_MAPS}?continue={token}")
    assert [item["metadata"]["name"] for item in rest["items"]] == ["m2", "m3", "m4"]
    standin.compact()
    assert call("GET", f"{CONFIG_MAPS}?continue={token}")[0] == 410


def test_it_selects_by_label_and_field(call):
    for name, labels in (("a", {"x": "1", "y": "1"}), ("b", {"x": "2"}), ("c", {"z": "1"})):
        call("POST", CONFIG_MAPS, {"metadata": {"name": name, "labels": labels}})

    def names(query):
        return [item["metadata"]["name"] for item in call("GET", f"{CONFIG_MAPS}?{query}")[1]["items"]]

    assert names("labelSelector=x") == ["a", "b"]
    assert names("labelSelector=x%20in%20(1,3),!z") == ["a"]
    assert names("labelSelector=x!%3D1") == ["b", "c"]
    assert names("fieldSelector=metadata.name%3Dc") == ["c"]


def test_a_watch_tells_what_happens_after_a_list(call, watch):
    call("POST", CONFIG_MAPS, config_map("a"))
    revision = call("GET", CONFIG_MAPS)[1]["metadata"]["resourceVersion"]
    following = watch(f"{CONFIG_MAPS}?watch=1&resourceVersion={revision}")
    call("POST", CONFIG_MAPS, config_map("b"))
    call("PATCH", f"{CONFIG_MAPS}/a", {"data": {"x": "1"}}, MERGE)
    call("DELETE", f"{CONFIG_MAPS}/b")
    assert following.wait_for(3) == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]


def test_what_no_longer_matches_is_gone_for_a_watch(call, watch):
    call("POST", CONFIG_MAPS, {"metadata": {"name": "a", "labels": {"x": "1"}}})
    following = watch(f"{CONFIG_MAPS}?watch=1&labelSelector=x%3D1")
    following.wait_for(1)
    call("PATCH", f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"x": "2"}}}, MERGE)
    assert following.wait_for(2) == [("ADDED", "a"), ("DELETED", "a")]


def test_a_watch_from_before_the_history_is_told_410(standin, call):
    call("POST", CONFIG_MAPS, config_map("a"))
    standin.compact()
    call("POST", CONFIG_MAPS, config_map("b"))
    code, event = call("GET", f"{CONFIG_MAPS}?watch=1&resourceVersion=2")
    assert (code, event["type"], event["object"]["code"]) == (200, "ERROR", 410)


def test_a_quiet_watch_gets_bookmarks(call, watch):
    following = watch(f"{CONFIG_MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion=1")
    deadline = time.monotonic() + 5
    while not any(event["type"] == "BOOKMARK" for event in following.events):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- Deleting -----------------------------------------------------------------------------------------------


def test_an_object_with_a_finalizer_goes_when_the_finalizer_does(call):
    call("POST", CONFIG_MAPS, {"metadata": {"name": "a", "finalizers": ["example.com/hold"]}})
    _, going = call("DELETE", f"{CONFIG_MAPS}/a")
    assert going["metadata"]["deletionTimestamp"]
    assert call("GET", f"{CONFIG_MAPS}/a")[0] == 200
    call("PATCH", f"{CONFIG_MAPS}/a", {"metadata": {"finalizers": None}}, MERGE)
    assert call("GET", f"{CONFIG_MAPS}/a")[0] == 404


def test_it_deletes_only_the_object_that_is_meant(call):
    call("POST", CONFIG_MAPS, config_map("a"))
    code, refused = call("DELETE", f"{CONFIG_MAPS}/a", {"preconditions": {"uid": "another"}})
    assert (code, refused["reason"]) == (409, "Conflict")


# --- Faults -------------------------------------------------------------------------------------------------


def test_a_fault_strikes_as_often_as_it_is_meant_to(standin, call):
    standin.faults.add(Answer(429, retry_after=1), verbs={"create"}, kinds={"ConfigMap"}, skip=1, times=2)
    codes = [call("POST", CONFIG_MAPS, config_map(f"m{number}"))[0] for number in range(4)]
    assert codes == [201, 429, 429, 201]


def test_a_write_can_happen_although_its_answer_is_lost(standin, call):
    standin.faults.add(Cut(done=True), verbs={"create"})
    with pytest.raises(OSError):
        call("POST", CONFIG_MAPS, config_map("a"))
    assert call("GET", f"{CONFIG_MAPS}/a")[0] == 200


def test_a_request_can_hang(standin, call):
    standin.faults.add(Hang(seconds=5), verbs={"get"})
    with pytest.raises(OSError):
        call("GET", f"{CONFIG_MAPS}/a", timeout=0.2)


def test_a_watch_can_fall_silent_and_lose_and_repeat_events(standin, call, watch):
    standin.faults.add(Silence(after=1))
    silent = watch(f"{CONFIG_MAPS}?watch=1&resourceVersion=1")
    standin.faults.add(Duplicate())
    doubled = watch(f"{CONFIG_MAPS}?watch=1&resourceVersion=1")
    standin.faults.add(Drop(rate=1.0))
    watch(f"{CONFIG_MAPS}?watch=1&resourceVersion=1")
    for name in ("a", "b"):
        call("POST", CONFIG_MAPS, config_map(name))
    assert doubled.wait_for(4) == [("ADDED", name) for name in ("a", "a", "b", "b")]
    assert silent.wait_for(1) == [("ADDED", "a")]


def test_a_watch_can_be_told_410_in_the_middle(standin, call, watch):
    standin.faults.add(Expire(after=1))
    following = watch(f"{CONFIG_MAPS}?watch=1&resourceVersion=1")
    call("POST", CONFIG_MAPS, config_map("a"))
    following.wait_for(1)
    deadline = time.monotonic() + 5
    while following.events[-1]["type"] != "ERROR":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert following.events[-1]["object"]["reason"] == "Expired"


def test_it_can_be_gone_and_come_back_with_all_it_knew(standin, call):
    call("POST", CONFIG_MAPS, config_map("a"))
    standin.go_away()
    with pytest.raises(urllib.error.URLError, match="refused"):
        call("GET", f"{CONFIG_MAPS}/a")
    standin.come_back()
    assert call("GET", f"{CONFIG_MAPS}/a")[0] == 200
