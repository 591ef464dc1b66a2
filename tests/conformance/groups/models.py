"""The list of models."""

from __future__ import annotations

import openai

from runtimes.contract import Task
from tests.conformance.target import Target, equal, refused

TASK = Task.TEXT_GENERATION


def check_the_model_is_listed(target: Target) -> None:
    assert target.model in [model.id for model in target.sdk.models.list()]


def check_the_list_has_its_shape(target: Target) -> None:
    body = target.http.get("/v1/models").json()
    equal((body["object"], {model["object"] for model in body["data"]}), ("list", {"model"}))
    assert all({"id", "created", "owned_by"} <= set(model) for model in body["data"])


def check_the_model_is_found(target: Target) -> None:
    equal(target.sdk.models.retrieve(target.model).id, target.model)


def check_another_is_not_found(target: Target) -> None:
    try:
        target.sdk.models.retrieve("no-such-model")
    except openai.NotFoundError as error:
        equal(error.code, "model_not_found")
    else:
        raise AssertionError("it was found")


def check_nothing_is_deleted(target: Target) -> None:
    refused(target.http.delete(f"/v1/models/{target.model}"), status=(404, 405))
