"""Which ways to run a version there are: one recipe for each engine and image that suits it.

Engines are data (`data/engines.toml`), so a new engine or image is a block there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from marketplace.catalog.models import ModelVersion, Recipe, TaskChoices
from marketplace.hardware.models import AcceleratorFamily
from marketplace.seeds import read_data


@dataclass(frozen=True, kw_only=True)
class EngineImage:
    """One engine built for one accelerator family."""

    engine: str
    tasks: frozenset[str]
    family: str
    image: str
    precision: str
    tensor_parallel: bool = False
    """Whether the engine spreads one model over several devices."""
    largest_parameters: int | None = None
    """Above it the family answers too slowly to be offered; None = any size."""

    def suits(self, *, task: str, parameters: int | None) -> bool:
        return task in self.tasks and not (
            self.largest_parameters and parameters and parameters > self.largest_parameters
        )


@cache
def engine_images() -> tuple[EngineImage, ...]:
    """Every block of `data/engines.toml`."""
    return tuple(
        EngineImage(
            engine=engine["slug"],
            tasks=frozenset(TaskChoices(task) for task in engine["tasks"]),
            family=AcceleratorFamily(image["family"]),
            image=image["image"],
            precision=image["precision"],
            tensor_parallel=image.get("tensor_parallel", False),
            largest_parameters=image.get("largest_parameters"),
        )
        for engine in read_data("catalog", "engines")["engine"]
        for image in engine["image"]
    )


def attach_recipes(versions: Iterable[ModelVersion], *, images: Sequence[EngineImage] | None = None) -> int:
    """Gives versions the recipes they lack, and returns how many. What staff changed stays,

    also the precision: recipes of an engine on a family are either all made here, or none.
    """
    chosen = engine_images() if images is None else images
    recipes = [
        Recipe(
            version=version,
            engine=image.engine,
            accelerator_family=image.family,
            image=image.image,
            precision=image.precision,
            tensor_parallel=image.tensor_parallel,
        )
        for version in versions
        for image in chosen
        if image.suits(task=version.model.task, parameters=version.parameters)
    ]
    held = set(
        Recipe.objects.filter(version__in={recipe.version_id for recipe in recipes}).values_list(
            "version", "engine", "accelerator_family"
        )
    )
    missing = [r for r in recipes if (r.version_id, r.engine, r.accelerator_family) not in held]
    Recipe.objects.bulk_create(missing, ignore_conflicts=True)
    return len(missing)
