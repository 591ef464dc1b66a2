"""Rows that tests of fine-tuning begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deployments.tuning.models import Dataset, DatasetVersion, FineTuningJob
from deployments.tuning.results import ADAPTER_CONFIG, ADAPTER_WEIGHTS, RESULT
from deployments.tuning.storage import output_path
from marketplace.catalog.models import Recipe
from tests.market import Market
from tests.people import Person

CONFIG = '{"peft_type": "LORA", "r": 8, "auto_mapping": null}'


def add_tuning_recipe(market: Market) -> Recipe:
    """Makes the market's chat model tunable on CPU."""
    return Recipe.objects.create(
        version=market.version,
        engine="tune-lora",
        accelerator_family="cpu",
        image="marketplace/tune-cpu:test",
        precision="float32",
    )


def make_job(person: Person, market: Market, **values: Any) -> FineTuningJob:
    """A job row as if it had been wished for, without its dataset on disk."""
    dataset, _ = Dataset.objects.get_or_create(organization=person.organization, name="chats")
    data, _ = DatasetVersion.objects.get_or_create(
        dataset=dataset,
        digest="c" * 64,
        defaults={"storage_path": "datasets/x.jsonl", "bytes": 1, "report": {"examples": 1}},
    )
    return FineTuningJob.objects.create(
        **{
            "organization": person.organization,
            "name": "support",
            "recipe": market.recipe,
            "flavor": market.flavor,
            "cluster": market.cluster,
            "price": market.price,
            "base": market.version,
            "training_data": data,
            "spec": {},
            **values,
        }
    )


def safetensors_file(values: int = 4) -> bytes:
    """A whole safetensors file with one float32 tensor."""
    tensor = {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}
    header = json.dumps({"lora": tensor})
    return len(header).to_bytes(8, "little") + header.encode() + bytes(4 * values)


def write_output(storage: Path, job: FineTuningJob) -> Path:
    """What a run leaves behind."""
    folder = storage / output_path(job.public_id)
    (folder / "checkpoints" / "step-3").mkdir(parents=True)
    (folder / "checkpoints" / "step-3" / "optimizer.safetensors").write_bytes(safetensors_file())
    content = {ADAPTER_CONFIG: CONFIG.encode(), ADAPTER_WEIGHTS: safetensors_file(), RESULT: b"{}"}
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder
