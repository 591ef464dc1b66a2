"""The control plane's image as far as Python goes: an environment with the packages of the image and no more.

The Python of the tests has far more. A program that needs some of it would start here, and nowhere else.
"""

from __future__ import annotations

import json
import tomllib
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]
BESIDES = ("setuptools",)
"""What the Containerfile installs beside the dependencies."""


def make_environment(folder: Path) -> Path:
    """Makes a virtual environment of links to the packages of this Python; returns its folder of programs."""
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in sorted(needed()):
        for part in {Path(file).parts[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
            place = packages / part
            if not place.exists():
                place.symlink_to(Path(str(distribution(name).locate_file(part))))
    return folder / "bin"


def needed() -> set[str]:
    """Names of the packages that installing the project's dependencies brings."""
    texts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    waiting = [Requirement(text) for text in (*texts, *BESIDES)]
    seen: set[tuple[str, str]] = set()
    found = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            try:
                asked = distribution(name).requires or []
            except PackageNotFoundError:
                continue  # by another platform
            found.add(name)
            items = map(Requirement, asked)
            waiting += [
                item for item in items if item.marker is None or item.marker.evaluate({"extra": extra})
            ]
    return found


def entry_point() -> list[str]:
    """ENTRYPOINT of the control plane's image."""
    with (CHECKOUT / "Containerfile").open("rb") as file:
        lines = DockerfileParser(fileobj=file).structure
    *_, last = (line["value"] for line in lines if line["instruction"] == "ENTRYPOINT")
    return list(json.loads(last))
