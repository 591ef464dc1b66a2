"""Embeddings."""

from __future__ import annotations

import base64
import struct
from typing import Any

from runtimes.contract import Task
from tests.conformance.checks import cases
from tests.conformance.target import Target, equal, refused

TASK = Task.FEATURE_EXTRACTION
TEXTS = ["A cat sleeps.", "A kitten naps.", "Interest rates rise."]


def embed(target: Target, **fields: Any) -> Any:
    given = {"model": target.model, "input": TEXTS, "encoding_format": "float"}
    return target.sdk.embeddings.create(**given | fields)


def check_each_input_has_a_vector(target: Target) -> None:
    answer = embed(target)
    equal((answer.object, [item.index for item in answer.data]), ("list", [0, 1, 2]))
    equal({item.object for item in answer.data}, {"embedding"})


def check_a_text_alone_is_an_input(target: Target) -> None:
    equal(len(embed(target, input="Hello").data), 1)


def check_vectors_have_one_length(target: Target) -> None:
    equal(len({len(item.embedding) for item in embed(target).data}), 1)


def check_vectors_mean_something(target: Target) -> None:
    cat, kitten, rates = (item.embedding for item in embed(target).data)
    assert _product(cat, kitten) > _product(cat, rates)


def check_a_batch_is_what_its_parts_are(target: Target) -> None:
    together = [item.embedding for item in embed(target).data]
    alone = [embed(target, input=text).data[0].embedding for text in TEXTS]
    for one, other in zip(together, alone, strict=True):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) < 1e-4


def check_base64_is_little_endian_floats(target: Target) -> None:
    body = {"model": target.model, "input": TEXTS, "encoding_format": "base64"}
    coded = target.http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    content = base64.b64decode(coded)
    vector = struct.unpack(f"<{len(content) // 4}f", content)
    plain = embed(target).data[0].embedding
    assert max(abs(a - b) for a, b in zip(vector, plain, strict=True)) < 1e-5


def check_the_sdk_reads_its_default_format(target: Target) -> None:
    answer = target.sdk.embeddings.create(model=target.model, input=TEXTS)
    assert isinstance(answer.data[0].embedding[0], float)


def check_tokens_are_an_input(target: Target) -> None:
    equal(len(embed(target, input=[[101, 7592, 102], [101, 102]]).data), 2)


def check_usage_counts_the_input(target: Target) -> None:
    usage = embed(target).usage
    equal(usage.total_tokens, usage.prompt_tokens)
    assert usage.prompt_tokens > 6


@cases(
    {
        "no input": ({"input": []}, "input"),
        "an empty text": ({"input": ["a", ""]}, "input"),
        "too many inputs": ({"input": ["a"] * 2049}, "input"),
        "no such token": ({"input": [99_999_999]}, "input"),
        "another format": ({"encoding_format": "hex"}, "encoding_format"),
        "no dimensions": ({"dimensions": 0}, "dimensions"),
        "an unknown field": ({"truncate": True}, "truncate"),
    }
)
def check_it_refuses(target: Target, case: tuple[dict[str, Any], str]) -> None:
    changes, param = case
    body = {"model": target.model, "input": "a"} | changes
    refused(target.http.post("/v1/embeddings", json=body), param=param)


def _product(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
