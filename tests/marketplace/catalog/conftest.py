from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import pytest
from pytest_django import Settings

from tests.hub.server import Hub, running_hub

if TYPE_CHECKING:
    from marketplace.catalog.models import Model


@pytest.fixture
def storage(tmp_path: Path, settings: Settings) -> Path:
    """An empty storage root."""
    settings.STORAGE_ROOT = tmp_path / "storage"
    return tmp_path / "storage"


@pytest.fixture
def hub(settings: Settings) -> Iterator[Hub]:
    """A hub on the loopback, which the settings point to."""
    with running_hub() as running:
        settings.HF_ENDPOINT = running.url
        settings.HF_TOKEN = ""
        yield running
        huggingface_hub.close_session()


@pytest.fixture
def entry(db: None) -> Model:
    """A catalog entry without versions."""
    # pytest reads this file before the settings are there, models can be imported only after.
    from marketplace.catalog.models import License, Model

    license = License.objects.create(slug="apache-2.0", name="Apache License 2.0")
    return Model.objects.create(
        publisher="tiny",
        slug="llama",
        name="Tiny Llama",
        task="text-generation",
        license=license,
        source="hub:tiny/llama",
    )
