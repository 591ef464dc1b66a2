from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django import Settings

from tests.deployments.tuning.jobs import add_tuning_recipe
from tests.market import Market


@pytest.fixture(autouse=True)
def _something_to_deploy_and_tune(market: Market, settings: Settings, tmp_path: Path) -> None:
    """What the objects of `targets.py` are made on."""
    settings.STORAGE_ROOT = tmp_path
    add_tuning_recipe(market)
