"""What an image name means on the local cluster: the command that the image would run. Data, not code.

A real cluster pulls images; the local one starts the same program from the checkout. An image is known by
its repository, whatever registry stands before it and whatever tag or digest behind it. More images can be
given in a JSON file (LOCAL_CLUSTER_IMAGES): {"acme/server": {"command": ["python", "-m", "server"]}}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Image:
    """What an image says about itself: its entry point and its environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


class UnknownImage(Exception):
    """No such image; the message says which there are."""


# Output must reach the log when it is printed, not when a buffer is full.
_PYTHON = {"PYTHONUNBUFFERED": "1"}
IMAGES: Mapping[str, Image] = {
    "marketplace/runtime-cpu": Image(command=(sys.executable, "-m", "runtimes.server"), environment=_PYTHON),
    "marketplace/tune-cpu": Image(command=(sys.executable, "-m", "runtimes.tune"), environment=_PYTHON),
    **{
        # Whatever framework is installed here: the notebook server is the same.
        f"marketplace/workspace-{framework}": Image(
            command=(sys.executable, "-m", "runtimes.workspace"), environment=_PYTHON
        )
        for framework in ("pytorch", "tensorflow", "paddlepaddle", "cuda", "poplar", "poptorch")
    },
}


def find_image(name: str, *, more: Path | None = None) -> Image:
    """The image called `name`, for example `registry.example/marketplace/runtime-cpu:1.2`.

    `more` is a JSON file with further images. Raises UnknownImage.
    """
    images = {**IMAGES, **(_read(more) if more else {})}
    repository = _repository(name)
    while repository not in images:
        _, slash, repository = repository.partition("/")  # without the registry
        if not slash:
            known = ", ".join(sorted(images))
            raise UnknownImage(f'image "{name}" is not known to the local cluster; it has {known}')
    return images[repository]


def _repository(name: str) -> str:
    name = name.partition("@")[0]
    head, slash, tail = name.rpartition("/")  # a colon before the last slash belongs to the registry's port
    return head + slash + tail.partition(":")[0]


def _read(path: Path) -> dict[str, Image]:
    try:
        entries = json.loads(path.read_bytes())
        return {
            repository: Image(
                command=tuple(entry["command"]), environment={**_PYTHON, **entry.get("environment", {})}
            )
            for repository, entry in entries.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        expected = '{"repository": {"command": [...], "environment": {...}}}'
        raise UnknownImage(
            f"{path} is not a usable list of images: {error!r}; expected {expected}"
        ) from error
