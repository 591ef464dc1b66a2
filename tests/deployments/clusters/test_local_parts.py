"""The local cluster's smaller parts: images, quantities, mounts, addresses, records, logs, the registry."""

from __future__ import annotations

import json
import os
import socket
from decimal import Decimal

import pytest
from kubernetes.utils.quantity import parse_quantity

from deployments.clusters import registry
from deployments.clusters.errors import ClusterRejected, ClusterUnreachable
from deployments.clusters.images import UnknownImage, find_image
from deployments.clusters.local import attempts
from deployments.clusters.local.addresses import choose_address
from deployments.clusters.local.cluster import LocalCluster
from deployments.clusters.local.containers import expand, rewrite_mounts
from deployments.clusters.local.logfiles import KEPT_PER_RESOURCE, LogReader, find_log, prune_logs
from deployments.clusters.local.machine import describe_machine
from deployments.clusters.local.store import Records, write_json
from deployments.clusters.quantities import parse
from marketplace.hardware.models import Cluster

# --- Images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "marketplace/runtime-cpu",
        "marketplace/runtime-cpu:1.0",
        "registry.example:5000/marketplace/runtime-cpu:1.0",
        "registry.example/mirror/marketplace/runtime-cpu@sha256:00ff",
    ],
)
def test_it_knows_an_image_by_its_repository(name):
    assert find_image(name).command[1:] == ("-m", "runtimes.server")


def test_it_says_which_images_there_are():
    with pytest.raises(
        UnknownImage, match=r'"acme/x:1" is not known .* marketplace/runtime-cpu, marketplace/tune-cpu'
    ):
        find_image("acme/x:1")


def test_it_takes_more_images_from_a_file(tmp_path):
    path = tmp_path / "images.json"
    path.write_text(json.dumps({"acme/x": {"command": ["x"], "environment": {"A": "b"}}}))
    image = find_image("acme/x:1", more=path)
    assert (image.command, image.environment["A"]) == (("x",), "b")
    path.write_text('{"acme/x": ["x"]}')
    with pytest.raises(UnknownImage, match="not a usable list of images"):
        find_image("acme/x:1", more=path)


# --- Quantities, paths, addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "2", "500m", "1.5", "2Gi", "1e3", "3M", "0.5Ki", "100n", 7])
def test_it_reads_quantities_as_the_official_client_does(text):
    assert parse(text) == parse_quantity(text)


@pytest.mark.parametrize("text", ["", "lots", "1 Gi", "5GB", "--1", "m"])
def test_it_refuses_what_is_no_quantity(text):
    with pytest.raises(ValueError, match="is not a quantity"):
        parse(text)


def test_quantities_are_exact():
    assert parse("0.1") + parse("200m") == Decimal("0.3")


def test_a_machine_offers_what_it_is_told_or_what_it_has():
    assert describe_machine(cpu="1500m", memory="2Gi").allocatable == {"cpu": 1500, "memory": 2**31}
    whole = describe_machine()
    assert whole.allocatable["cpu"] == 4000 * os.cpu_count()
    assert whole.labels["kubernetes.io/os"] == "linux"


MOUNTS = {"/models": "/real/m", "/models/tiny": "/real/t", "/out": "/real/o"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/models", "/real/m"),
        ("/models/tiny/x", "/real/t/x"),
        ("/models/tinyx", "/real/m/tinyx"),
        ("--out=/out/a", "--out=/real/o/a"),
        ('{"dir": "/out"}', '{"dir": "/real/o"}'),
        ("/models2", "/models2"),
        ("/x/models", "/x/models"),
        ("http://h/out", "http://h/out"),
        ("models", "models"),
    ],
)
def test_it_puts_real_folders_in_place_of_mount_paths(text, expected):
    assert rewrite_mounts(text, MOUNTS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)-$(B)", "1-$(B)"), ("$$(A)", "$(A)"), ("$A", "$A"), ("$", "$"), ("$(A", "$(A")],
)
def test_it_expands_variables_as_kubernetes_does(text, expected):
    assert expand(text, {"A": "1"}) == expected


def test_every_pod_gets_an_address_where_its_port_is_free():
    first = choose_address("uid", taken=set(), port=8000)
    assert first.startswith("127.77.")
    assert choose_address("uid", taken={first}, port=8000) != first
    with socket.socket() as other:
        other.bind((first, 8000))
        other.listen()
        assert choose_address("uid", taken=set(), port=8000) != first
    assert choose_address("uid", taken=set(), port=8000) == first


# --- Records ------------------------------------------------------------------------------------------------


def test_a_record_is_read_again_only_when_it_changed(tmp_path):
    records = Records(tmp_path)
    write_json(tmp_path / "a.json", {"n": 1})
    os.utime(tmp_path / "a.json", (1, 1))  # long ago, so that it may be remembered
    [first] = records.read_all()
    [second] = records.read_all()
    assert second is first
    write_json(tmp_path / "a.json", {"n": 2})
    assert records.read_all() == [{"n": 2}]
    write_json(tmp_path / "a.json", {"n": 3})  # as long, and perhaps within the same tick of the clock
    assert records.read_all() == [{"n": 3}]
    (tmp_path / "a.json").unlink()
    assert records.read_all() == []


def test_half_a_record_is_never_seen(tmp_path):
    (tmp_path / ".a.json.1.2").write_text('{"n": ')
    assert Records(tmp_path).read_all() == []


@pytest.mark.parametrize("lost", [b"", b'{"n": ', b"\0" * 64, b"\xff", b"[]"])
def test_a_record_that_a_power_loss_took_is_skipped_with_one_warning(tmp_path, caplog, lost):
    records = Records(tmp_path)
    (tmp_path / "a.json").write_bytes(lost)
    write_json(tmp_path / "b.json", {"n": 1})
    assert [records.read_all() for _ in range(3)] == [[{"n": 1}]] * 3
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"{tmp_path / 'a.json'} is skipped"
    ]
    write_json(tmp_path / "a.json", {"n": 2})
    assert records.read_all() == [{"n": 2}, {"n": 1}]


def test_a_record_is_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def remember(descriptor):
        synced.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", remember)
    write_json(tmp_path / "a.json", {"n": 1})
    written = (tmp_path / "a.json").stat()
    assert synced == [(written.st_ino, written.st_size)]


def test_an_object_whose_record_was_lost_can_be_applied_again(tmp_path):
    cluster = LocalCluster(name="local", root=tmp_path / "cluster")
    metadata = {"name": "n", "labels": {"app.kubernetes.io/managed-by": "marketplace"}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    cluster.apply(namespace)
    [path] = cluster.store.objects.folder.iterdir()
    path.write_bytes(b"")
    assert cluster.observe().objects == ()
    cluster.apply(namespace)
    assert [item.ref.name for item in cluster.observe().objects] == ["n"]


def test_only_the_owner_reads_what_the_cluster_knows(tmp_path):
    cluster = LocalCluster(name="local", root=tmp_path / "cluster")
    metadata = {"name": "n", "labels": {"app.kubernetes.io/managed-by": "marketplace"}}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    modes = {
        path.stat().st_mode & 0o077 for path in [tmp_path / "cluster", *tmp_path.glob("cluster/objects/*")]
    }
    assert modes == {0}


# --- Logs ---------------------------------------------------------------------------------------------------


def read(path, *, after=0, complete=False):
    return [
        (line.number, line.text) for line in LogReader().read(path, after=after, limit=100, complete=complete)
    ]


def test_a_line_counts_when_it_is_whole(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"one\ntw")
    assert read(path) == [(1, "one")]
    assert read(path, complete=True) == [(1, "one"), (2, "tw")]


def test_following_a_log_does_not_miss_or_repeat(tmp_path):
    path, reader, seen = tmp_path / "log", LogReader(), []
    for number in range(50):
        with open(path, "a") as file:
            file.write(f"line {number}\nli")
        seen += reader.read(path, after=len(seen), limit=3, complete=False)
        with open(path, "r+") as file:
            file.truncate(path.stat().st_size - 2)
    assert [(line.number, line.text) for line in seen] == [(n + 1, f"line {n}") for n in range(50)]
    assert reader.read(path, after=0, limit=1, complete=False) == seen[:1]


def test_the_tail_of_a_growing_log_is_the_same_as_that_of_a_whole_one(tmp_path):
    path, reader = tmp_path / "log", LogReader()
    for number in range(50):
        with open(path, "a") as file:
            file.write(f"line {number}\n")
        limit = number % 7 + 1
        everything = LogReader().read(path, after=0, limit=100, complete=False)
        for after in (0, number - 3, number + 5):
            wanted = [line for line in everything if line.number > after][-limit:]
            assert reader.read_tail(path, after=after, limit=limit, complete=False) == wanted


def test_odd_bytes_and_endless_lines_do_no_harm(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"\xff\xfe\r\n" + b"x" * 100_000 + b"\n")
    [first, second] = read(path)
    assert first == (1, "��")
    assert second == (2, "x" * 16384)


def test_only_the_newest_logs_are_kept_and_those_of_living_pods(tmp_path):
    paths = [tmp_path / f"{number:017d}-uid{number}.log" for number in range(KEPT_PER_RESOURCE + 5)]
    for path in paths:
        path.write_text("x\n")
    prune_logs(tmp_path, alive={paths[0]})
    assert sorted(tmp_path.iterdir()) == [paths[0], *paths[5:]]
    assert find_log(tmp_path, pod=None) == paths[-1]
    assert find_log(tmp_path, pod="uid7") == paths[7]
    assert find_log(tmp_path, pod="uid3") is None


# --- The registry -------------------------------------------------------------------------------------------


def test_a_run_that_could_not_be_made_leaves_its_number_free(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError("fork: resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(attempts.subprocess, "Popen", refuse)
        with pytest.raises(BlockingIOError):
            attempts.Attempt.start(tmp_path, 1, {})
    assert attempts.newest(tmp_path) == 0
    assert attempts.trace(tmp_path, 1) is attempts.Trace.NONE


def test_it_opens_a_local_cluster_once(tmp_path):
    row = Cluster(slug="here", kind="local", configuration={"root": str(tmp_path)})
    cluster = registry.open_cluster(row)
    assert isinstance(cluster, LocalCluster)
    assert (cluster.name, cluster.store.root) == ("here", tmp_path)
    assert registry.open_cluster(row) is cluster


def test_no_error_of_the_file_system_leaves_the_port(tmp_path):
    (tmp_path / "file").write_text("")
    cluster = LocalCluster(name="broken", root=tmp_path / "file" / "cluster")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    for call in (
        cluster.observe,
        cluster.nodes,
        lambda: cluster.apply(namespace),
        lambda: cluster.logs("dep_x"),
    ):
        with pytest.raises(ClusterUnreachable, match="cannot be used") as raised:
            call()
        assert not raised.value.permanent


def test_it_says_which_kinds_can_be_opened():
    with pytest.raises(ClusterRejected, match="nothing opens kind 'mainframe'; use one of: .*local"):
        registry.open_cluster(Cluster(slug="there", kind="mainframe"))
