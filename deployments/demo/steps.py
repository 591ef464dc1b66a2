"""The steps of the demo, in order. Each does one thing a customer would do, checks the answer, and returns
one sentence on what that proved. State that later steps need is kept on the `Story`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from openai import OpenAI

from deployments.demo.client import DemoFailed, RestClient
from deployments.demo.usage import usage_table

CHAT_MODEL = "huggingfacetb/smollm2-135m-instruct"
EMBEDDING_MODEL = "sentence-transformers/all-minilm-l6-v2"
FLAVOR = "cpu-small"
START_SECONDS = 180.0
TUNING_SECONDS = 600.0
TUNING_EPOCHS = 2
"""Enough for the demo's data: its held-out loss falls from 4.6 to less than 0.1 with every seed tried."""


@dataclass
class Story:
    """What one run of the demo knows so far."""

    rest: RestClient
    openai: OpenAI
    question: str
    """Asked before and after tuning."""
    expected: str
    """What only the tuned model can know; part of its answer."""
    say: Callable[[str], None]
    """Shows progress inside a long step."""
    deployments: list[str] = field(default_factory=list)
    plan: dict[str, Any] = field(default_factory=dict)
    answer_before: str = ""
    dataset: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)


def demo_file(name: str) -> str:
    return files("deployments.demo").joinpath("data", name).read_text(encoding="utf-8")


def clear_leftovers(story: Story) -> str:
    """An earlier run may have been interrupted; the product kept what it had wished for."""
    jobs = story.rest.get("fine-tuning-jobs/", state=["queued", "running"])["items"]
    for job in jobs:
        story.rest.post(f"fine-tuning-jobs/{job['id']}/cancel/")
    left = [row["id"] for row in story.rest.get("deployments/")["items"]]
    _delete(story, left)
    return f"{len(left)} deployments and {len(jobs)} jobs of an earlier run were left"


def browse_catalog(story: Story) -> str:
    models = story.rest.get("models/", task="text-generation")["items"]
    names = {f"{model['publisher']}/{model['slug']}" for model in models}
    if CHAT_MODEL not in names:
        raise DemoFailed(f"the catalog has no {CHAT_MODEL}, only {sorted(names)}")
    frameworks = story.rest.get("frameworks/")["items"]
    flavors = story.rest.get("flavors/")["items"]
    return f"{len(names)} text models, {len(frameworks)} frameworks and {len(flavors)} flavors are on offer"


def plan_too_large(story: Story) -> str:
    plan = story.rest.post(
        "plans/", {"model": CHAT_MODEL, "flavor": FLAVOR, "context_length": 8192, "max_concurrency": 64}
    )
    check = next(check for check in plan["checks"] if check["name"] == "memory")
    if plan["accepted"] or check["passed"]:
        raise DemoFailed("64 requests of 8192 tokens were planned on a flavor that cannot hold them")
    return f"refused with numbers: {check['message']}"


def plan_chat(story: Story) -> str:
    story.plan = story.rest.post("plans/", {"model": CHAT_MODEL, "flavor": FLAVOR})
    if not story.plan["accepted"]:
        raise DemoFailed(f"the plan was not accepted: {story.plan['checks']}")
    price, memory = story.plan["price"], story.plan["memory"]
    return (
        f"fits ({memory['expected'] / 2**30:.1f} of {memory['available'] / 2**30:.1f} GiB), "
        f"{price['per_minute']} {price['currency']} a minute, {price['per_month']} a month"
    )


def deploy_chat(story: Story) -> str:
    deployment = story.rest.post("deployments/", {"name": "demo-chat", "plan": story.plan["id"]})
    return _wait_running(story, deployment)


def deploy_embeddings(story: Story) -> str:
    deployment = story.rest.post(
        "deployments/", {"name": "demo-embed", "model": EMBEDDING_MODEL, "flavor": FLAVOR}
    )
    return _wait_running(story, deployment)


def chat(story: Story) -> str:
    answer = _ask(story, "demo-chat", "What is the capital of Luxembourg?")
    if "Luxembourg" not in answer:
        raise DemoFailed(f"asked for the capital of Luxembourg, the model said {answer!r}")
    story.answer_before = _ask(story, "demo-chat", story.question)
    return f"the openai SDK got {answer!r}"


def stream_chat(story: Story) -> str:
    stream = story.openai.chat.completions.create(
        model="demo-chat",
        messages=[{"role": "user", "content": "Count from one to ten."}],
        max_tokens=32,
        temperature=0,
        stream=True,
    )
    pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
    spoken = [piece for piece in pieces if piece]
    if len(spoken) < 4:
        raise DemoFailed(f"a stream of 32 tokens came in {len(spoken)} pieces")
    return f"{len(spoken)} pieces arrived one by one"


def embed(story: Story) -> str:
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "The invoice is due on Friday."]
    rows = [row.embedding for row in story.openai.embeddings.create(model="demo-embed", input=texts).data]
    near, far = (sum(a * b for a, b in zip(rows[0], row, strict=True)) for row in rows[1:])
    if near <= far:
        raise DemoFailed(f"a kitten ({near:.2f}) is no nearer to a cat than an invoice is ({far:.2f})")
    return f"cat and kitten {near:.2f}, cat and invoice {far:.2f}"


def refuse_bad_dataset(story: Story) -> str:
    lines = demo_file("train.jsonl").splitlines()[:9]
    lines[6] = json.dumps({"messages": [{"role": "robot", "content": "Hello"}]})
    problem = story.rest.refused(
        "POST", "datasets/", data={"name": "bad"}, files={"file": ("bad.jsonl", "\n".join(lines).encode())}
    )
    text = json.dumps(problem)
    if "7" not in text or "role" not in text:
        raise DemoFailed(f"line 7 has a wrong role, and the refusal does not say so: {text}")
    return f"{problem['detail']}"


def upload_dataset(story: Story) -> str:
    story.dataset = story.rest.upload(
        "datasets/", name="demo-support", content=demo_file("train.jsonl").encode()
    )
    story.validation = story.rest.upload(
        "datasets/", name="demo-support-held-out", content=demo_file("validation.jsonl").encode()
    )
    examples, held_out = (item["report"]["examples"] for item in (story.dataset, story.validation))
    return f"{examples} examples accepted, {held_out} held out"


def estimate_tuning(story: Story) -> str:
    estimate = story.rest.post("fine-tuning-jobs/estimate/", _job(story))
    basis = f"{estimate['measured']} earlier runs" if estimate["measured"] else "priors"
    return (
        f"{estimate['seconds_low']:.0f} to {estimate['seconds_high']:.0f} s, "
        f"{estimate['cost_low']} to {estimate['cost_high']} {estimate['currency']}, from {basis}"
    )


def fine_tune(story: Story) -> str:
    job = story.rest.post("fine-tuning-jobs/", _job(story))
    seen: set[int] = set()

    def watch(document: dict[str, Any]) -> None:
        progress = document["progress"]
        step = progress.get("step") or 0
        if step and step not in seen and step % 10 == 0:
            seen.add(step)
            story.say(
                f"step {step}/{progress.get('total_steps')}, loss {progress.get('loss')}, "
                f"{progress.get('eta_seconds')} s left"
            )

    story.job = story.rest.wait(
        f"fine-tuning-jobs/{job['id']}/",
        until=lambda document: document["state"] == "succeeded",
        failed=lambda document: document["state"] in ("failed", "cancelled"),
        seconds=TUNING_SECONDS,
        watch=watch,
    )
    progress = story.job["progress"]
    before, after = progress["validation_loss_before"], progress["validation_loss_after"]
    if after > 0.8 * before:
        raise DemoFailed(f"held-out loss only went from {before:.3f} to {after:.3f}")
    return (
        f"held-out loss {before:.3f} → {after:.3f} "
        f"in {progress['total_steps']} steps, {progress['trained_tokens']} tokens"
    )


def deploy_tuned(story: Story) -> str:
    deployment = story.rest.post(
        "deployments/", {"name": "demo-tuned", "model": story.job["result"], "flavor": FLAVOR}
    )
    return _wait_running(story, deployment)


def chat_tuned(story: Story) -> str:
    answer = _ask(story, "demo-tuned", story.question)
    if story.expected.lower() not in answer.lower():
        raise DemoFailed(f"the tuned model should say {story.expected!r} and said {answer!r}")
    if story.expected.lower() in story.answer_before.lower():
        raise DemoFailed(f"the base model already said {story.expected!r}, so tuning proved nothing")
    return f"{story.question!r}: before {story.answer_before!r}, after {answer!r}"


def pause_all(story: Story) -> str:
    for deployment in story.deployments:
        story.rest.post(f"deployments/{deployment}/pause/")
    for deployment in story.deployments:
        story.rest.wait(
            f"deployments/{deployment}/",
            until=lambda document: document["state"] == "paused",
            failed=lambda document: document["state"] == "failed",
            seconds=60,
        )
    return "no replica is left, and nothing more is billed until they are resumed"


def resume_chat(story: Story) -> str:
    path = f"deployments/{story.deployments[0]}/"
    story.rest.post(f"{path}resume/")
    _wait_state(story, path)
    answer = _ask(story, "demo-chat", story.question)
    if answer != story.answer_before:
        raise DemoFailed(f"the base model said {story.answer_before!r} before and {answer!r} after its pause")
    return "the base model came back and answers as before"


def delete_everything(story: Story) -> str:
    _delete(story, story.deployments)
    for dataset in (story.dataset, story.validation):
        story.rest.delete(f"datasets/{dataset['id']}/")
    return f"{len(story.deployments)} deployments deleted once nothing of them was observed"


def bill(story: Story) -> str:
    usage = story.rest.get("usage/")
    table = usage_table(usage)
    for line in table:
        story.say(line)
    if not any(line["billed"] and float(line["seconds"]) > 0 for line in usage["lines"]):
        raise DemoFailed(f"nothing was billed: {usage}")
    return " ".join(table[-1].split())


def _delete(story: Story, deployments: list[str]) -> None:
    for deployment in deployments:
        story.rest.delete(f"deployments/{deployment}/")
    for deployment in deployments:
        story.rest.wait(
            f"deployments/{deployment}/",
            until=lambda document: document["state"] == "deleted",
            failed=lambda _: False,
            seconds=90,
        )


def _job(story: Story) -> dict[str, Any]:
    return {
        "name": "demo-support",
        "model": CHAT_MODEL,
        "training_dataset": story.dataset["id"],
        "validation_dataset": story.validation["id"],
        "flavor": FLAVOR,
        "hyperparameters": {"epochs": TUNING_EPOCHS},
    }


def _ask(story: Story, model: str, question: str) -> str:
    answer = story.openai.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=48,
        temperature=0,
    )
    return (answer.choices[0].message.content or "").strip()


def _wait_running(story: Story, deployment: dict[str, Any]) -> str:
    story.deployments.append(deployment["id"])
    running = _wait_state(story, f"deployments/{deployment['id']}/")
    return f"{running['name']} runs on {running['flavor']}, revision {running['serving_revision']}"


def _wait_state(story: Story, path: str) -> dict[str, Any]:
    return story.rest.wait(
        path,
        until=lambda document: document["state"] == "running",
        failed=lambda document: document["state"] == "failed",
        seconds=START_SECONDS,
    )
