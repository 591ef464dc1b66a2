from __future__ import annotations

import pytest

from runtimes.contract import (
    CacheEnvironment,
    ContractError,
    WeightsPhase,
    WeightsProgress,
    format_weights,
    parse_weights,
)

HALF = WeightsProgress(
    phase=WeightsPhase.FETCHING,
    at="2026-05-04T03:02:01+00:00",
    bytes_done=50,
    bytes_total=200,
    bytes_per_second=30.0,
    bytes_fetched=50,
)


def test_progress_of_weights_comes_back_as_it_was_printed():
    assert parse_weights("2026-05-04 " + format_weights(HALF)) == HALF


@pytest.mark.parametrize(
    "line",
    [
        "",
        "RUNTIME_WEIGHTS",
        "RUNTIME_WEIGHTS 3",
        "RUNTIME_WEIGHTS {}",
        format_weights(HALF)[:-9],
        format_weights(HALF).replace("fetching", "resting"),
        format_weights(HALF).replace("30.0", "NaN"),
        format_weights(HALF).replace("200", "[]"),
        'RUNTIME_EVENT {"step":1,"type":"progress"}',
    ],
)
def test_any_other_line_is_no_progress(line: str):
    assert parse_weights(line) is None


@pytest.mark.parametrize(
    ("case", "done", "speed", "seconds"),
    [
        ("half way", 50, 30.0, 5.0),
        ("not known yet", 50, 0.0, None),
        ("there", 200, 0.0, 0.0),
    ],
)
def test_it_says_how_long_the_rest_takes(case: str, done: int, speed: float, seconds: float | None):
    progress = WeightsProgress(
        phase=WeightsPhase.FETCHING, at="", bytes_done=done, bytes_total=200, bytes_per_second=speed
    )
    assert progress.seconds_left == seconds, case


def test_the_environment_of_the_cache_comes_back_as_it_was_set():
    environment = CacheEnvironment(
        cache_dir="/cache",
        source_dir="/source",
        versions={"a" * 64: {"model.safetensors": "b" * 64}},
        free_share=0.2,
    )
    assert CacheEnvironment.from_environment(environment.to_environment()) == environment


def test_versions_without_a_manifest_each_are_refused_by_name():
    with pytest.raises(ContractError, match="RUNTIME_VERSIONS"):
        CacheEnvironment.from_environment(
            {"RUNTIME_CACHE_DIR": "/c", "RUNTIME_SOURCE_DIR": "/s", "RUNTIME_VERSIONS": '{"a": 1}'}
        )
