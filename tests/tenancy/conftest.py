from __future__ import annotations

import pytest

from tests.market import Market


@pytest.fixture(autouse=True)
def _something_to_deploy(market: Market) -> None:
    """What the objects of `targets.py` are made on."""
