"""The real huggingface_hub client against a hub on the loopback."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pytest_django import Settings

from marketplace.catalog.hub import (
    HubFile,
    HubRefused,
    HubUnavailable,
    count_parameters,
    fetch,
    inspect,
    read_config,
    verify,
)
from tests.hub.server import Asked, Fault, Hub
from tests.hub.tiny import tiny_model

COMMIT = "1" * 40


def soon() -> float:
    return time.monotonic() + 30


def file_of(hub: Hub, path: str) -> HubFile:
    return next(file for file in inspect("tiny/llama").files if file.path == path)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "file.part"


@pytest.mark.parametrize("revision", ["", "main", "v1", COMMIT])
def test_it_resolves_a_branch_tag_or_commit_to_a_commit(hub: Hub, revision: str):
    hub.add("tiny/llama", tiny_model(), gated=True)
    model = inspect("tiny/llama", revision=revision)
    assert (model.revision, model.license, model.gated, model.task) == (
        COMMIT,
        "apache-2.0",
        True,
        "text-generation",
    )
    assert [file.path for file in model.files] == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert hub.asked == []


def test_it_reads_facts_without_downloading_weights(hub: Hub):
    files = tiny_model()
    hub.add("tiny/llama", files)
    model = inspect("tiny/llama")
    assert count_parameters(model) == {"BF16": 10_256}
    assert read_config(model)["num_hidden_layers"] == 2
    assert hub.asked == [Asked("model.safetensors", "bytes=0-100000"), Asked("config.json", "")]


def test_it_fetches_and_verifies_a_file(hub: Hub, part: Path):
    files = tiny_model()
    hub.add("tiny/llama", files)
    for path in ("model.safetensors", "config.json"):
        part.unlink(missing_ok=True)
        file = file_of(hub, path)
        assert fetch("tiny/llama", file, revision=COMMIT, part=part, stop_at=soon())
        assert len(verify("tiny/llama", file, part)) == 64
        assert part.read_bytes() == files[path]


def test_a_connection_cut_at_60_percent_resumes_from_there(hub: Hub, part: Path):
    data = tiny_model()["model.safetensors"]
    hub.add("tiny/llama", tiny_model())
    hub.faults.append(Fault("model.safetensors", cut_at=0.6))
    file = file_of(hub, "model.safetensors")

    with pytest.raises(HubUnavailable, match="the connection failed"):
        fetch("tiny/llama", file, revision=COMMIT, part=part, stop_at=soon())
    kept = part.stat().st_size
    assert kept == round(len(data) * 0.6)

    assert fetch("tiny/llama", file, revision=COMMIT, part=part, stop_at=soon())
    assert part.read_bytes() == data
    assert [asked.range for asked in hub.asked] == ["", f"bytes={kept}-"]


def test_it_stops_when_its_time_is_over_and_goes_on_later(hub: Hub, part: Path):
    # Larger than what arrives in one piece, so that there is something left when the time is over.
    data = bytes(5 * 2**20)
    hub.add("tiny/llama", {"model.safetensors": data})
    file = file_of(hub, "model.safetensors")
    assert not fetch("tiny/llama", file, revision=COMMIT, part=part, stop_at=time.monotonic())
    assert 0 < part.stat().st_size < len(data)
    assert fetch("tiny/llama", file, revision=COMMIT, part=part, stop_at=soon())
    assert part.read_bytes() == data


@pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
def test_a_damaged_file_is_removed_and_may_be_fetched_again(hub: Hub, part: Path, path: str):
    hub.add("tiny/llama", tiny_model())
    hub.faults.append(Fault(path, damage=True))
    file = file_of(hub, path)
    fetch("tiny/llama", file, revision=COMMIT, part=part, stop_at=soon())
    with pytest.raises(HubUnavailable, match="checksum") as caught:
        verify("tiny/llama", file, part)
    assert caught.value.retryable
    assert not part.exists()


def test_a_rate_limit_says_how_long_to_wait_and_does_not_sleep(hub: Hub, part: Path):
    hub.add("tiny/llama", tiny_model())
    file = file_of(hub, "config.json")
    hub.faults += [Fault(status=429, headers={"Retry-After": "37"})]
    hub.faults += [Fault("config.json", status=429, headers={"Retry-After": "38"})]
    began = time.monotonic()
    with pytest.raises(HubUnavailable, match="limits our requests") as caught:
        inspect("tiny/llama")
    assert caught.value.retry_after == 37
    with pytest.raises(HubUnavailable, match="limits our requests") as caught:
        fetch("tiny/llama", file, revision=COMMIT, part=part, stop_at=soon())
    assert caught.value.retry_after == 38
    assert time.monotonic() - began < 20


def test_a_server_error_may_be_tried_again(hub: Hub):
    hub.add("tiny/llama", tiny_model())
    hub.faults.append(Fault(status=503))
    with pytest.raises(HubUnavailable, match="the hub answers 503"):
        inspect("tiny/llama")


def test_a_hub_that_is_not_there_may_be_tried_again(settings: Settings):
    settings.HF_ENDPOINT = "http://127.0.0.1:9"
    with pytest.raises(HubUnavailable, match="the connection failed"):
        inspect("tiny/llama")


@pytest.mark.parametrize(
    ("case", "token", "says"),
    [
        ("without a token", "", "gated: accept its terms"),
        ("with a token that was not granted access", "hf_wrong", "gated: accept its terms"),
    ],
)
def test_a_gated_model_is_refused(hub: Hub, part: Path, settings: Settings, case: str, token: str, says: str):
    hub.add("tiny/llama", tiny_model(), gated=True, token="hf_right")
    settings.HF_TOKEN = token
    file = file_of(hub, "config.json")
    with pytest.raises(HubRefused, match=says) as caught:
        fetch("tiny/llama", file, revision=COMMIT, part=part, stop_at=soon())
    assert not caught.value.retryable


def test_a_gated_model_comes_with_a_token_that_may_read_it(hub: Hub, part: Path, settings: Settings):
    hub.add("tiny/llama", tiny_model(), gated=True, token="hf_right")
    settings.HF_TOKEN = "hf_right"
    assert fetch("tiny/llama", file_of(hub, "config.json"), revision=COMMIT, part=part, stop_at=soon())


@pytest.mark.parametrize(
    ("repository", "revision", "says"),
    [
        ("tiny/unknown", "", "is not on the hub"),
        ("tiny/llama", "nowhere", "no such branch, tag or commit"),
        ("tiny/lla ma", "", "write owner/name"),
    ],
)
def test_what_is_not_there_is_refused(hub: Hub, repository: str, revision: str, says: str):
    hub.add("tiny/llama", tiny_model())
    with pytest.raises(HubRefused, match=says):
        inspect(repository, revision=revision)
