"""litellm as a client: its own reading of the protocol. Skipped where it is not installed."""

from __future__ import annotations

import importlib.util
import json
import os
from typing import Any

from runtimes.contract import Task
from tests.conformance.checks import Skipped
from tests.conformance.groups.chat import ASK
from tests.conformance.groups.functions import NAMED, PARAMETERS, WEATHER, WEATHER_ASKED
from tests.conformance.target import Target, equal

TASK = Task.TEXT_GENERATION


def complete(target: Target, **fields: Any) -> Any:
    if importlib.util.find_spec("litellm") is None:
        raise Skipped("litellm is not installed (requirements/peers.txt)")
    # Otherwise it asks the network for a list of prices as it is imported.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    given = {"messages": ASK, "temperature": 0, "max_tokens": 6, "num_retries": 0, "timeout": 120}
    address = {"api_base": f"{target.url}/v1", "api_key": target.api_key}
    return litellm.completion(model=f"openai/{target.model}", **address, **given | fields)


def check_it_gets_an_answer(target: Target) -> None:
    answer = complete(target)
    assert answer.choices[0].message.content
    equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)


def check_it_gets_a_stream(target: Target) -> None:
    chunks = list(complete(target, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    equal(text, complete(target).choices[0].message.content)


def check_it_gets_usage_of_a_stream(target: Target) -> None:
    chunks = list(complete(target, stream=True, stream_options={"include_usage": True}))
    assert [chunk for chunk in chunks if getattr(chunk, "usage", None)], "no usage"


def check_it_gets_a_call(target: Target) -> None:
    answer = complete(target, messages=WEATHER_ASKED, tools=[WEATHER], tool_choice=NAMED, max_tokens=60)
    [call] = answer.choices[0].message.tool_calls
    equal(set(json.loads(call.function.arguments)), {"city", "unit"})


def check_it_gets_a_schema_kept(target: Target) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": PARAMETERS, "strict": True}}
    answer = complete(target, response_format=wanted, max_tokens=60)
    equal(set(json.loads(answer.choices[0].message.content)), {"city", "unit"})


def check_it_understands_a_refusal(target: Target) -> None:
    try:
        complete(target, temperature=9)
    except Skipped:
        raise
    except Exception as error:
        equal((type(error).__name__, getattr(error, "status_code", None)), ("BadRequestError", 400))
    else:
        raise AssertionError("it answered")
