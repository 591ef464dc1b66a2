"""Imports from the hub and from folders, pass by pass, with everything that may go wrong between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from pytest_django import Settings

from marketplace.catalog import imports
from marketplace.catalog.imports import (
    MOST_FAILURES,
    Outcome,
    advance,
    cancel_import,
    due_imports,
    retry_import,
    start_import,
)
from marketplace.catalog.manifests import read_manifest
from marketplace.catalog.models import ImportState, Model, ModelImport, ModelVersion
from marketplace.catalog.sources import FolderSource, HubSource, SourceRefused
from marketplace.catalog.storage import full_path
from tests.hub.server import Fault, Hub
from tests.hub.tiny import safetensors_of, tiny_model, write_files

pytestmark = pytest.mark.django_db

COMMIT = "1" * 40
ARCHITECTURE = {
    "name": "LlamaForCausalLM",
    "type": "llama",
    "layers": 2,
    "hidden_size": 16,
    "attention_heads": 4,
    "kv_heads": 2,
    "head_size": 4,
    "vocabulary": 640,
}


def wake(row: ModelImport) -> None:
    """Lets the time of a pause or of a dead worker's lease pass."""
    ModelImport.objects.filter(pk=row.pk).update(next_attempt_at=timezone.now(), lease_until=timezone.now())


def run_to_end(row: ModelImport) -> ModelImport:
    for _ in range(30):
        if advance(row.public_id) is Outcome.ENDED:
            row.refresh_from_db()
            return row
        wake(row)
    raise AssertionError(f"the import did not end: {row.error}")


def test_it_publishes_what_the_hub_has_at_a_pinned_commit(hub: Hub, storage: Path, entry: Model):
    files = tiny_model()
    hub.add("tiny/llama", {**files, "README.md": b"# Tiny", "pytorch_model.bin": b"\x80\x04."})
    row = run_to_end(start_import(model=entry, requested_revision="main"))

    total = sum(len(data) for data in files.values())
    assert (row.state, row.error, row.bytes_done, row.bytes_total) == ("succeeded", "", total, total)
    assert row.reported == {"license": "apache-2.0", "gated": False, "task": "text-generation"}
    version = ModelVersion.objects.get()
    assert row.version == version
    assert (version.revision, version.parameters, version.precision, version.context_length) == (
        COMMIT,
        10_256,
        "bfloat16",
        128,
    )
    assert version.architecture == ARCHITECTURE
    folder = full_path(version.storage_path)
    assert version.files == read_manifest(folder).to_json()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o444"}
    assert [asked.path for asked in hub.asked].count("model.safetensors") == 1
    assert sorted((r.engine, r.accelerator_family) for r in version.recipes.all()) == [
        ("transformers", "cpu"),
        ("transformers", "cuda"),
        ("tune-lora", "cpu"),
        ("tune-lora", "cuda"),
    ]
    assert not list((storage / "models/.incoming").iterdir())


def test_an_announced_version_gets_its_files(hub: Hub, storage: Path, entry: Model):
    announced = ModelVersion.objects.create(model=entry, revision=COMMIT, parameters=10_000)
    hub.add("tiny/llama", tiny_model())
    row = run_to_end(start_import(model=entry))
    announced.refresh_from_db()
    assert row.version == announced
    assert announced.published_at is not None
    assert (announced.parameters, len(announced.files)) == (10_256, 4)


def test_it_publishes_a_folder_under_a_revision_made_from_its_files(
    storage: Path, entry: Model, settings: Settings, tmp_path: Path
):
    settings.MODEL_FOLDERS = [tmp_path]
    folder = write_files(tmp_path / "llama", tiny_model())
    row = run_to_end(start_import(model=entry, source=f"folder:{folder}"))
    version = ModelVersion.objects.get()
    digest = version.storage_path.removeprefix("models/")
    assert (row.state, version.revision) == ("succeeded", digest[:40])
    assert read_manifest(full_path(version.storage_path)).digest == digest
    assert read_manifest(folder).digest == digest


def test_the_same_files_are_kept_once(
    hub: Hub, storage: Path, entry: Model, settings: Settings, tmp_path: Path
):
    settings.MODEL_FOLDERS = [tmp_path]
    hub.add("tiny/llama", tiny_model())
    run_to_end(start_import(model=entry))
    run_to_end(start_import(model=entry, source=f"folder:{write_files(tmp_path / 'llama', tiny_model())}"))
    first, second = ModelVersion.objects.order_by("id")
    assert first.revision != second.revision
    assert first.storage_path == second.storage_path


def test_the_same_import_asked_twice_is_one(hub: Hub, entry: Model):
    assert start_import(model=entry) == start_import(model=entry)
    assert start_import(model=entry) != start_import(model=entry, requested_revision="v1")


def test_it_goes_on_after_a_cut_connection_and_forgets_the_failure(hub: Hub, storage: Path, entry: Model):
    hub.add("tiny/llama", tiny_model())
    hub.faults.append(Fault("model.safetensors", cut_at=0.6))
    row = start_import(model=entry)
    assert advance(row.public_id) is Outcome.LATER
    row.refresh_from_db()
    assert row.attempts == 1
    assert "the connection failed" in row.error
    assert timedelta(seconds=3) < row.next_attempt_at - timezone.now() <= timedelta(seconds=5)
    assert advance(row.public_id) is Outcome.SKIPPED

    row = run_to_end(row)
    assert (row.state, row.error, row.attempts) == ("succeeded", "", 0)
    assert [asked.range != "" for asked in hub.asked if asked.path == "model.safetensors"] == [False, True]


def test_it_waits_as_long_as_the_hub_asks(hub: Hub, entry: Model, storage: Path):
    hub.add("tiny/llama", tiny_model())
    hub.faults.append(Fault(status=429, headers={"Retry-After": "600"}))
    row = start_import(model=entry)
    assert advance(row.public_id) is Outcome.LATER
    row.refresh_from_db()
    assert timedelta(seconds=590) < row.next_attempt_at - timezone.now() <= timedelta(seconds=600)


def test_it_gives_up_after_many_failures_in_a_row_and_may_be_started_again(
    hub: Hub, storage: Path, entry: Model
):
    hub.add("tiny/llama", tiny_model())
    hub.faults.append(Fault(status=500, times=MOST_FAILURES + 1))
    row = run_to_end(start_import(model=entry))
    assert (row.state, row.retryable) == ("failed", True)
    assert row.error == f"tiny/llama: the hub answers 500 (after {MOST_FAILURES + 1} attempts)"
    assert retry_import(row)
    assert run_to_end(row).state == "succeeded"
    assert not retry_import(row)


def test_a_damaged_file_is_fetched_anew(hub: Hub, storage: Path, entry: Model):
    hub.add("tiny/llama", tiny_model())
    hub.faults.append(Fault("model.safetensors", damage=True))
    row = start_import(model=entry)
    assert advance(row.public_id) is Outcome.LATER
    row.refresh_from_db()
    assert "arrived with the checksum" in row.error
    assert run_to_end(row).state == "succeeded"


@pytest.mark.parametrize(
    ("case", "files", "says"),
    [
        (
            "code in config.json",
            tiny_model(auto_map={"AutoModel": "modeling.Tiny"}),
            "config.json: it asks for",
        ),
        ("only pickles", {"config.json": b"{}", "pytorch_model.bin": b"\x80\x04."}, "it is a pickle"),
        (
            "a pickle under a safe name",
            {"config.json": b"{}", "model.safetensors": b"\x80\x04\x95" + bytes(80)},
            "model.safetensors: it is a Python pickle",
        ),
    ],
)
def test_it_refuses_unsafe_models_for_good(
    hub: Hub, storage: Path, entry: Model, case: str, files: dict[str, bytes], says: str
):
    hub.add("tiny/llama", files)
    row = run_to_end(start_import(model=entry))
    assert (row.state, row.retryable) == ("failed", False)
    assert says in row.error
    assert not ModelVersion.objects.exists()
    assert not (storage / "models/.incoming" / row.public_id).exists()


def test_it_refuses_code_before_it_downloads_the_weights(hub: Hub, storage: Path, entry: Model):
    hub.add("tiny/llama", tiny_model(auto_map={"AutoModel": "modeling.Tiny"}))
    run_to_end(start_import(model=entry))
    assert "model.safetensors" not in [asked.path for asked in hub.asked]


def test_a_model_that_is_not_there_fails_for_good(hub: Hub, entry: Model):
    row = run_to_end(start_import(model=entry))
    assert (row.state, row.retryable) == ("failed", False)
    assert row.error == "tiny/llama is not on the hub, or is private and HF_TOKEN does not open it"


@pytest.mark.parametrize(
    "source",
    ["", "hub:tiny", "hub:a/b/c", "folder:relative", "folder:/etc", "https://example.com", "hub:../x"],
)
def test_it_refuses_what_is_no_source(entry: Model, source: str):
    entry.source = ""
    with pytest.raises(SourceRefused):
        start_import(model=entry, source=source)
    assert not ModelImport.objects.exists()


def test_two_workers_never_work_on_the_same_import(hub: Hub, storage: Path, entry: Model):
    hub.add("tiny/llama", tiny_model())
    row = start_import(model=entry)
    ModelImport.objects.update(lease_token="another", lease_until=timezone.now() + timedelta(seconds=60))
    assert advance(row.public_id) is Outcome.SKIPPED
    assert hub.asked == []
    assert not due_imports().exists()


def test_a_canceled_import_stops_and_keeps_what_it_has(hub: Hub, storage: Path, entry: Model):
    data = tiny_model()
    hub.add("tiny/llama", data)
    row = start_import(model=entry)
    assert advance(row.public_id, pass_seconds=0) is Outcome.AGAIN
    assert cancel_import(row, by="alice@example.com")
    assert advance(row.public_id) is Outcome.SKIPPED
    row.refresh_from_db()
    assert (row.state, row.error) == ("failed", "Canceled by alice@example.com.")


class Died(BaseException):
    """Stands for the end of the process: nothing may catch it."""


def test_it_ends_whole_wherever_a_worker_dies(hub: Hub, storage: Path, entry: Model, monkeypatch):
    """Dies after the n-th durable write, for every n: the end is always the same, downloaded once."""
    write = imports._Pass._write
    left = 0

    def write_and_die(work, **values):
        nonlocal left
        write(work, **values)
        left -= 1
        if left == 0:
            raise Died

    monkeypatch.setattr(imports._Pass, "_write", write_and_die)
    n, died = 0, True
    while died:
        n += 1
        commit = f"{n:040x}"
        hub.add("tiny/llama", tiny_model(), commit=commit)
        hub.asked.clear()
        row = start_import(model=entry)
        left = n
        try:
            run_to_end(row)
            died = False
        except Died:
            row.refresh_from_db()
            if row.state != ImportState.SUCCEEDED:
                wake(row)
                run_to_end(row)
        version = ModelVersion.objects.get(revision=commit)
        assert read_manifest(full_path(version.storage_path)).to_json() == version.files
        assert [asked.path for asked in hub.asked].count("model.safetensors") <= 1
    assert n > 5


KILLED = """
import django, os, signal, sys
django.setup()
from marketplace.catalog import hub, imports
report = imports._Pass._report
def dying(self, size):
    report(self, size)
    if size > 200_000:
        os.kill(os.getpid(), signal.SIGKILL)
imports._Pass._report = dying
outcome = imports.advance(sys.argv[1])
print(outcome, imports.ModelImport.objects.get(public_id=sys.argv[1]).error)
"""


@pytest.mark.django_db(transaction=True)
def test_a_killed_worker_costs_at_most_one_piece(hub: Hub, storage: Path, entry: Model):
    weights = safetensors_of({"w": ("F32", [1000, 1000])})
    hub.add("tiny/llama", {**tiny_model(), "model.safetensors": weights})
    row = start_import(model=entry)
    database = connection.settings_dict
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgres://postgres@{database['HOST'].replace('/', '%2F')}/{database['NAME']}",
        "DJANGO_SETTINGS_MODULE": "marketplace.config.settings",
        "STORAGE_ROOT": str(storage),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",  # a test of the runtimes in this process may have switched it on
    }
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, row.public_id], env=environment, capture_output=True, timeout=60
    )
    assert killed.returncode == -9, (killed.stdout, killed.stderr)
    assert advance(row.public_id) is Outcome.SKIPPED  # the dead worker's lease still runs
    part = storage / "models/.incoming" / row.public_id / "model.safetensors.part"
    kept = part.stat().st_size
    assert kept + 5_000 > 200_000

    wake(row)
    assert run_to_end(row).state == "succeeded"
    assert [asked.range for asked in hub.asked if asked.path == "model.safetensors"] == ["", f"bytes={kept}-"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("files", []), ("revision", "2" * 40), ("storage_path", "x"), ("parameters", 1), ("published_at", None)],
)
def test_postgresql_refuses_to_change_a_published_version(
    hub: Hub, storage: Path, entry: Model, column: str, value: object
):
    hub.add("tiny/llama", tiny_model())
    run_to_end(start_import(model=entry))
    with pytest.raises(IntegrityError, match="is published and never changes"), transaction.atomic():
        ModelVersion.objects.update(**{column: value})


def test_postgresql_refuses_to_delete_a_published_version(hub: Hub, storage: Path, entry: Model):
    hub.add("tiny/llama", tiny_model())
    run_to_end(start_import(model=entry))
    with pytest.raises(IntegrityError, match="cannot be deleted"), transaction.atomic():
        ModelVersion.objects.all().delete()
    announced = ModelVersion.objects.create(model=entry, revision="2" * 40)
    announced.delete()


def test_an_error_of_ours_steps_aside_with_the_import_s_id(
    hub: Hub, storage: Path, entry: Model, monkeypatch
):
    hub.add("tiny/llama", tiny_model())
    monkeypatch.setattr("marketplace.catalog.imports.publish", lambda *_, **__: json.loads("{"))
    row = start_import(model=entry)
    assert advance(row.public_id) is Outcome.LATER
    row.refresh_from_db()
    assert row.error.startswith(f"Ours to mend ({row.public_id}): JSONDecodeError")


@pytest.mark.parametrize("kind", [HubSource, FolderSource])
def test_hashing_renews_the_lease_however_long_it_takes(
    hub: Hub,
    storage: Path,
    entry: Model,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
):
    settings.MODEL_FOLDERS = [tmp_path]
    hub.add("tiny/llama", tiny_model())
    folder = write_files(tmp_path / "llama", tiny_model())
    row = start_import(model=entry, source=f"folder:{folder}" if kind is FolderSource else "")
    monkeypatch.setattr(imports, "REPORT_SECONDS", 0.0)
    verify, renewed = kind.verify, []

    def verify_for_long(self, *values, **named):
        ModelImport.objects.update(lease_until=timezone.now() - timedelta(hours=1))
        digest = verify(self, *values, **named)
        row.refresh_from_db()
        renewed.append(row.lease_until > timezone.now())
        return digest

    monkeypatch.setattr(kind, "verify", verify_for_long)
    run_to_end(row)
    assert set(renewed) == {True}
