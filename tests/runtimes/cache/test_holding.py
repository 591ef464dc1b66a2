"""The main container's side: what it loads from, and what it keeps from being removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.cache.holding import hold_for_serving, hold_for_tuning
from runtimes.cache.locks import locked_for_removal
from runtimes.cache.marker import MARKER
from runtimes.contract import ExitCode, ServingEnvironment, Task, TuningEnvironment
from tests.runtimes.cache.storage import MIB, ROOT, Storage

SERVER = """
import os, time
from runtimes.cache.holding import hold_for_serving
from runtimes.contract import ServingEnvironment
print(len(hold_for_serving(ServingEnvironment.from_environment(os.environ))[1]), flush=True)
time.sleep(600)
"""


@pytest.fixture
def base(storage: Storage) -> str:
    digest = storage.add(model=MIB)
    assert storage.run(digest).code == ExitCode.DONE
    return digest


def serving(storage: Storage, base: str, adapter: str = "") -> ServingEnvironment:
    folders = {
        str(storage.cache / digest): str(storage.source / digest) for digest in (base, adapter) if digest
    }
    return ServingEnvironment(
        task=Task.TEXT_GENERATION,
        model_dir=str(storage.cache / base),
        model_name="chat",
        digests=storage.versions[base],
        adapter_dir=str(storage.cache / adapter) if adapter else "",
        adapter_digests=storage.versions[adapter] if adapter else {},
        cached=folders,
    )


def test_what_was_verified_is_not_hashed_again(storage: Storage, base: str):
    adapter = storage.add(adapter=MIB)
    assert storage.run(adapter).code == ExitCode.DONE
    environment = serving(storage, base, adapter)
    assert hold_for_serving(environment) == (
        environment,
        {storage.cache / base, storage.cache / adapter},
    )


def test_a_lost_version_is_read_from_the_storage_and_hashed(storage: Storage, base: str):
    adapter = storage.add(adapter=MIB)
    # As the kubelet makes it where it mounts a version that is gone.
    (storage.cache / adapter).mkdir()
    environment, verified = hold_for_serving(serving(storage, base, adapter))
    assert (environment.model_dir, environment.adapter_dir, verified) == (
        str(storage.cache / base),
        str(storage.source / adapter),
        {storage.cache / base},
    )


def test_a_version_that_changed_since_it_was_verified_is_not_trusted(storage: Storage, base: str):
    os.utime(storage.cache / base / "model.safetensors", (0, 0))
    tuning = TuningEnvironment(
        task=Task.TEXT_GENERATION,
        job="ftj_1",
        model_dir=str(storage.cache / base),
        digests=storage.versions[base],
        cached={str(storage.cache / base): str(storage.source / base)},
        train_file="",
        output_dir="",
        checkpoint_dir="",
    )
    environment, is_verified = hold_for_tuning(tuning)
    assert (environment.model_dir, is_verified) == (str(storage.source / base), False)


def test_without_a_cache_nothing_is_trusted_even_if_a_marker_lies_there(storage: Storage, base: str):
    environment = ServingEnvironment(
        task=Task.TEXT_GENERATION,
        model_dir=str(storage.cache / base),
        model_name="chat",
        digests=storage.versions[base],
    )
    assert hold_for_serving(environment) == (environment, frozenset())


def test_a_version_is_kept_until_its_process_dies_however_it_does(storage: Storage, base: str):
    marker = storage.cache / base / MARKER
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        env={**os.environ, **serving(storage, base).to_environment()},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "1\n"
    with locked_for_removal(marker) as unused:
        assert not unused
    server.send_signal(signal.SIGKILL)
    server.communicate()
    with locked_for_removal(marker) as unused:
        assert unused


def test_a_read_only_mount_is_enough_to_hold(storage: Storage, base: str, tmp_path: Path):
    mounted = tmp_path / "model"
    mounted.mkdir()
    bind = ["mount", "--bind", "-o", "ro", str(storage.cache / base), str(mounted)]
    if subprocess.run(bind, capture_output=True).returncode:
        pytest.skip("only root can mount")
    # A process of its own: what it holds would keep the mount busy here.
    program = SERVER.replace("time.sleep(600)", "")
    environment = ServingEnvironment(
        task=Task.TEXT_GENERATION,
        model_dir=str(mounted),
        model_name="chat",
        digests=storage.versions[base],
        cached={str(mounted): "/origin"},
    )
    try:
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, **environment.to_environment()},
            capture_output=True,
            text=True,
        )
        assert ended.stdout == "1\n", ended.stderr
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
