"""Serving on IPUs, as far as it can be shown without one: PopTorch is a stand-in (see `standin/poptorch`)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtimes.contract import ExitCode, ServingEnvironment, Task
from runtimes.devices.ipu.process import WORKER, Worker
from runtimes.devices.ipu.rows import RowShape, pack_batches
from runtimes.devices.picking import pick_device
from runtimes.errors import SetupError
from tests.runtimes.serving import RunningServer, start_server

STAND_IN = Path(__file__).parent / "standin"
TEXTS = ["a short one", "word " * 200, "Luxembourg is small, and has three languages.", *["more"] * 40]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def ipus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two of them; the folder of compiled programs."""
    monkeypatch.setenv("RUNTIME_IPU_PYTHON", sys.executable)
    monkeypatch.setenv("RUNTIME_IPU_CACHE", str(tmp_path / "programs"))
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    return tmp_path / "programs"


@pytest.fixture
def ipu_server(ipus: Path, minilm_folder: Path) -> Iterator[RunningServer]:
    environment = ServingEnvironment(
        task=Task.FEATURE_EXTRACTION,
        model_dir=str(minilm_folder),
        model_name="embed-demo",
        device="ipu",
        dtype="float32",
    )
    with start_server(environment) as server:
        server.wait_ready()
        yield server


def test_the_worker_is_written_for_the_python_of_the_sdk() -> None:
    for file in WORKER.rglob("*.py"):
        tree = ast.parse(file.read_text(), feature_version=(3, 8))
        modules = {
            name.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for name in node.names
        }
        assert modules == {"json", "os", "sys", "numpy", "poptorch", "torch", "transformers"}
        assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))


def test_rows_hold_each_text_once_and_have_one_shape() -> None:
    texts = [list(range(1, length + 1)) for length in (8, 3, 5, 1, 1, 1, 1, 8)]

    batches = list(pack_batches(texts, shape=RowShape(rows=2, tokens=8, segments=2)))

    found = {}
    for batch in batches:
        assert batch.ids.shape == batch.positions.shape == batch.segments.shape == (2, 8)
        for row, members in enumerate(batch.members):
            for place, index in enumerate(members, start=1):
                own = batch.segments[row] == place
                found[index] = batch.ids[row][own].tolist()
                assert batch.positions[row][own].tolist() == list(range(len(texts[index])))
    assert [found[index] for index in range(len(texts))] == texts


def test_an_ipu_is_found_by_the_worker(ipus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = pick_device("ipu")
    assert (device.name, device.count, device.dtypes) == ("ipu", 2, ("float16", "float32"))

    monkeypatch.setenv("STANDIN_IPUS", "0")
    with pytest.raises(SetupError, match="PopTorch finds no IPU: is a partition attached to this pod"):
        pick_device("ipu")


@pytest.mark.weights
def test_vectors_are_those_of_the_processor(
    ipu_server: RunningServer, embedding_server: RunningServer, ipus: Path
) -> None:
    def encode(server: RunningServer) -> np.ndarray:
        with server.openai as client:
            answer = client.embeddings.create(model="embed-demo", input=TEXTS, encoding_format="float")
        return np.array([item.embedding for item in answer.data])

    found, expected = encode(ipu_server), encode(embedding_server)

    np.testing.assert_allclose(found, expected, atol=1e-4)
    with ipu_server.http as http:
        info = http.get("/info").json()
        refused = http.post("/v1/embeddings", json={"model": "embed-demo", "input": "word " * 300})
    assert (info["engine"], info["precision"]) == ("poptorch-packed-encoder", "float32")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert len(list(ipus.glob("*.popef"))) == 1


@pytest.mark.weights
def test_the_worker_says_why_it_cannot_start(ipus: Path, tmp_path: Path) -> None:
    settings = {"folder": str(tmp_path), "rows": 2, "tokens": 8, "segments": 2, "first_token_only": False}
    with pytest.raises(SetupError, match="the IPU worker failed: "):
        Worker(settings | {"half": False, "replicas": 1, "cache": str(ipus)})


def test_other_tasks_are_refused_on_an_ipu(ipus: Path, tmp_path: Path) -> None:
    environment = ServingEnvironment(
        task=Task.TEXT_GENERATION, model_dir=str(tmp_path), model_name="demo", device="ipu"
    )
    with start_server(environment) as server:
        assert server.exit_code() == ExitCode.BAD_CONFIGURATION
        assert "text-generation is not served on IPUs; feature-extraction is" in server.log
