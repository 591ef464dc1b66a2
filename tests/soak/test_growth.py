from __future__ import annotations

import json

import pytest

from tests.soak.calls import CHAT, EMBEDDINGS, Call, Result, judge
from tests.soak.growth import MEBIBYTE, Growth, growth_of

WHOLE = Call(kind="chat", path=CHAT, body={"max_tokens": 4})
STREAM = Call(kind="stream", path=CHAT, body={"max_tokens": 4})
VECTORS = Call(kind="embedding", path=EMBEDDINGS, body={"input": ["a", "b"]})
BAD = Call(kind="bad chat", path=CHAT, body={}, bad=True)
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
ANSWER = {"choices": [{"finish_reason": "length"}], "usage": USAGE}
ERROR = {"error": {"message": "no", "type": "t", "param": None, "code": None}}


def events(*chunks: object, done: bool = True) -> bytes:
    lines = [b"data: " + json.dumps(chunk).encode() for chunk in chunks] + [b"data: [DONE]"] * done
    return b"".join(line + b"\n\n" for line in lines)


@pytest.mark.parametrize(
    ("call", "status", "headers", "content", "result"),
    [
        (WHOLE, 200, {}, json.dumps(ANSWER).encode(), Result.ANSWERED),
        (WHOLE, 200, {}, json.dumps(ANSWER).encode()[:-9], Result.WRONG),
        (WHOLE, 200, {}, json.dumps(ANSWER | {"usage": USAGE | {"total_tokens": 9}}).encode(), Result.WRONG),
        (WHOLE, 429, {"retry-after": "3"}, b"", Result.REFUSED),
        (WHOLE, 429, {}, b"", Result.WRONG),
        (WHOLE, 503, {"retry-after": "3"}, b"", Result.WRONG),
        (STREAM, 200, {}, events(ANSWER), Result.ANSWERED),
        (STREAM, 200, {}, events(ANSWER, done=False), Result.WRONG),
        (STREAM, 200, {}, events(ANSWER, ANSWER), Result.WRONG),
        (VECTORS, 200, {}, json.dumps({"data": [{"embedding": [0.6, 0.8]}] * 2}).encode(), Result.ANSWERED),
        (VECTORS, 200, {}, json.dumps({"data": [{"embedding": [0.6, 0.8]}]}).encode(), Result.WRONG),
        (BAD, 400, {}, json.dumps(ERROR).encode(), Result.REJECTED),
        (BAD, 200, {}, json.dumps(ANSWER).encode(), Result.WRONG),
        (BAD, 500, {}, json.dumps(ERROR).encode(), Result.WRONG),
        (BAD, 429, {"retry-after": "3"}, b"", Result.WRONG),
    ],
    ids=[
        "a whole answer", "a cut answer", "usage that does not add up", "a refusal",
        "a refusal without a time", "not available", "a whole stream", "a cut stream",
        "a stream that ends twice",
        "vectors",
        "a vector too few", "a bad request that is told so", "a bad request that is answered",
        "a bad request that breaks the server", "a bad request that waits",
    ],
)  # fmt: skip
def test_an_answer_is_judged(
    call: Call, status: int, headers: dict[str, str], content: bytes, result: Result
) -> None:
    assert judge(call, status=status, headers=headers, content=content).result is result


def test_a_steady_process_with_one_late_peak_does_not_grow() -> None:
    sizes = [100 * MEBIBYTE] * 89 + [150 * MEBIBYTE]

    growth = growth_of(list(enumerate(sizes)))

    assert growth == Growth(first=100 * MEBIBYTE, per_minute=0.0, minutes=89 / 60)
    assert not growth.is_leak


def test_a_slow_leak_is_seen() -> None:
    growth = growth_of([(float(second), 2**30 + second * 50_000) for second in range(90)])

    assert (round(growth.per_minute), growth.is_leak) == (3_000_000, True)
