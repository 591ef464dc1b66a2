"""What planning needs to know of a version, from the catalog's columns."""

from __future__ import annotations

from deployments.planning.memory import ModelFacts
from deployments.serving.specs import weights_of
from marketplace.catalog.facts import Facts
from marketplace.catalog.models import ModelVersion, TaskChoices


def model_facts(version: ModelVersion) -> ModelFacts:
    """What memory estimates need of a version; an adapter is as large as its base."""
    weights = weights_of(version)
    known = Facts(
        parameters=weights.parameters,
        context_length=weights.context_length,
        architecture=weights.architecture,
    )
    task = version.model.task
    return planning_facts(
        known,
        generates=task == TaskChoices.TEXT_GENERATION,
        hears=task == TaskChoices.AUTOMATIC_SPEECH_RECOGNITION,
    )


def planning_facts(facts: Facts, *, generates: bool, hears: bool = False) -> ModelFacts:
    """The catalog's facts in the words of memory estimates."""
    architecture = facts.architecture
    return ModelFacts(
        parameters=facts.parameters or 0,
        # Only layers that keep keys and values count in an estimate.
        layers=architecture.get("cached_layers") or architecture.get("layers") or 0,
        hidden_size=architecture.get("hidden_size") or 0,
        attention_heads=architecture.get("attention_heads") or 0,
        kv_heads=architecture.get("kv_heads") or 0,
        head_size=architecture.get("head_size") or 0,
        vocabulary=architecture.get("vocabulary") or 0,
        context_length=facts.context_length or 0,
        window=architecture.get("window") or 0,
        window_layers=architecture.get("window_layers") or 0,
        latent_size=architecture.get("latent_size") or 0,
        generates=generates,
        hears=hears,
    )
