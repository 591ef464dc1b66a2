"""The image models of the tests: one with random weights, and one that is trained on scikit-learn's digits,
once, and kept in pytest's cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimes.contract import ServingEnvironment, Task
from tests.runtimes.serving import RunningServer, start_server

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def digits_folder(request: pytest.FixtureRequest) -> Path:
    """A Stable Diffusion pipeline that draws digits; minutes of training the first time."""
    program = b"".join(path.read_bytes() for path in sorted((ROOT / "runtimes/images/digits").glob("*.py")))
    cache = request.config.cache
    assert cache is not None
    folder = cache.mkdir("weights") / f"digits-{hashlib.sha256(program).hexdigest()[:16]}"
    with folder.with_suffix(".lock").open("w") as lock:
        # Workers that run at once train it once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            subprocess.run(
                [sys.executable, "-m", "runtimes.images.digits", str(folder)], check=True, cwd=ROOT
            )
    return folder


@pytest.fixture(scope="session")
def untrained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pipeline before its training: it answers in every way, but draws noise."""
    folder = tmp_path_factory.mktemp("untrained") / "model"
    subprocess.run(
        [sys.executable, "-m", "tests.runtimes.images.untrained", str(folder)], check=True, cwd=ROOT
    )
    return folder


def environment_of(folder: Path) -> ServingEnvironment:
    """Four places and eight waiting ones, so that a queue is soon full."""
    return ServingEnvironment(
        task=Task.TEXT_TO_IMAGE,
        model_dir=str(folder),
        model_name="draw-demo",
        max_concurrency=4,
        max_queue=8,
    )


@pytest.fixture(scope="session")
def trained_server(digits_folder: Path) -> Iterator[RunningServer]:
    with start_server(environment_of(digits_folder)) as server:
        server.wait_ready()
        yield server


@pytest.fixture(scope="session")
def untrained_server(untrained_folder: Path) -> Iterator[RunningServer]:
    with start_server(environment_of(untrained_folder)) as server:
        server.wait_ready()
        yield server
