"""Why a model's weights are not here: told from rows and from what the hub said of our token."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from pytest_django import Settings

from marketplace.catalog.access import obstacle_to_import, probe_token
from marketplace.catalog.models import ImportState, Model, ModelImport
from tests.hub.server import Hub

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def forgetful() -> None:
    cache.clear()


@pytest.fixture
def gated(entry: Model) -> Model:
    entry.gated = True
    entry.save()
    return entry


def test_a_gated_model_needs_a_hub_token(gated: Model, settings: Settings) -> None:
    settings.HF_TOKEN = ""
    assert obstacle_to_import(gated).message == "tiny/llama is gated on the hub, and no hub token is set."


def test_an_expired_token_is_told_once_the_hub_refused_it(hub: Hub, gated: Model, settings: Settings) -> None:
    settings.HF_TOKEN = "hf_old"
    hub.tokens = {"hf_new"}
    assert not probe_token()
    assert "does not accept the provider's token any more" in obstacle_to_import(gated).message
    settings.HF_TOKEN = "hf_new"
    assert probe_token()
    assert obstacle_to_import(gated).message == "Nobody has imported it yet."


def test_a_hub_that_is_down_says_nothing_about_the_token(hub: Hub, gated: Model, settings: Settings) -> None:
    settings.HF_TOKEN = "hf_old"
    probe_token()
    settings.HF_ENDPOINT = "http://127.0.0.1:9"
    assert not probe_token()
    assert "any more" in obstacle_to_import(gated).message


def test_a_failed_import_is_told_in_its_own_words(entry: Model) -> None:
    ModelImport.objects.create(
        model=entry, source=entry.source, state=ImportState.FAILED, error="tiny/llama has no weights"
    )
    assert obstacle_to_import(entry).message == "Its last import failed: tiny/llama has no weights"


def test_an_import_on_its_way_says_how_far_it_is(entry: Model) -> None:
    ModelImport.objects.create(
        model=entry,
        source=entry.source,
        state=ImportState.RUNNING,
        bytes_done=2**30,
        bytes_total=4 * 2**30,
    )
    assert obstacle_to_import(entry).message == "Its weights are being imported, 25 % of 4.0 GiB."
