"""Serving on IPUs, as far as it can be shown without one: PopTorch is a stand-in (see `standin/poptorch`)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from runtimes.contract import ServingEnvironment, Task
from runtimes.devices.ipu.process import WORKER, Worker
from runtimes.devices.ipu.rows import RowShape, pack_batches
from runtimes.devices.picking import pick_device
from runtimes.errors import SetupError
from runtimes.server.loading import load_model

STAND_IN = Path(__file__).parent / "standin"
TEXTS = ["a short one", "word " * 50, "Luxembourg is small, and has three languages.", *["more"] * 40]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def ipus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two of them; the folder of compiled programs."""
    monkeypatch.setenv("RUNTIME_IPU_PYTHON", sys.executable)
    monkeypatch.setenv("RUNTIME_IPU_CACHE", str(tmp_path / "programs"))
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    return tmp_path / "programs"


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
async def test_vectors_are_those_of_the_processor(ipus: Path, minilm_folder: Path) -> None:
    environment = ServingEnvironment(
        task=Task.FEATURE_EXTRACTION,
        model_dir=str(minilm_folder),
        model_name="embed-demo",
        device="ipu",
        dtype="float32",
        context_length=64,
    )
    model: Any = load_model(environment)
    failures: list[BaseException] = []
    model.start(on_failure=failures.append)
    try:
        inputs = await model.inputs.read(TEXTS)
        found = await model.engine.encode(inputs)
    finally:
        model.stop()

    encoder: Any = AutoModel.from_pretrained(minilm_folder).eval()
    with torch.inference_mode():
        hidden = [encoder(input_ids=torch.tensor([tokens])).last_hidden_state[0] for tokens in inputs[:4]]
    expected = torch.nn.functional.normalize(torch.stack([state.mean(dim=0) for state in hidden]), dim=-1)
    assert (found.shape, found.dtype) == ((len(TEXTS), 384), np.float32)
    np.testing.assert_allclose(found[:4], expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(found[3:], np.repeat(found[3:4], 40, axis=0), atol=1e-6)
    assert (model.facts.engine, failures) == ("poptorch-packed-encoder", [])
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
    with pytest.raises(SetupError, match="text-generation is not served on IPUs; feature-extraction is"):
        load_model(environment)
