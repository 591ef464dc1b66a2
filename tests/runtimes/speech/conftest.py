from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimes.contract import ServingEnvironment, Task
from tests.runtimes.serving import RunningServer, start_server


@pytest.fixture(scope="session")
def speech_server(whisper_folder: Path) -> Iterator[RunningServer]:
    environment = ServingEnvironment(
        task=Task.AUTOMATIC_SPEECH_RECOGNITION,
        model_dir=str(whisper_folder),
        model_name="speech-demo",
        max_concurrency=8,
        max_queue=2,
    )
    with start_server(environment) as server:
        server.wait_ready()
        yield server
