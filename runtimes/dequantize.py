"""Turns a GGUF file into a folder that the text runtime serves.

    python -m runtimes.dequantize FILE.gguf FOLDER

Quantized values become float32 safetensors; tokenizer, chat template and generation settings come along. The
same file always gives the same bytes, so that the folder's digests can be pinned in the catalog. The folder
appears whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from runtimes.contract import ExitCode
from runtimes.errors import SetupError
from runtimes.weights import stay_offline

_PRIVATE_KEYS = (
    "_name_or_path",
    "_from_model_config",
    "transformers_version",
    "is_local",
    "local_files_only",
    "name_or_path",
)
"""Entries that say where and by which release a file was written, not what the model is."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m runtimes.dequantize", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE.gguf")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="must not exist yet")
    values = parser.parse_args(arguments)
    try:
        dequantize(values.file, folder=values.folder)
    except SetupError as error:
        print(error, file=sys.stderr)
        return ExitCode.BAD_INPUT
    return ExitCode.DONE


def dequantize(file: Path, *, folder: Path) -> None:
    """Writes the folder. Raises SetupError when the file is no usable GGUF or the folder is already there."""
    if folder.exists():
        raise SetupError(f"{folder} already exists; remove it or name another folder")
    _check_header(file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename within one file system.
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(file, work)
        tidy(work)
        work.rename(folder)
    except OSError as error:
        # Somebody else finished the same folder first, or the disk is full.
        raise SetupError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_header(file: Path) -> None:
    try:
        with file.open("rb") as source:
            magic = source.read(4)
    except OSError as error:
        raise SetupError(f"{file} cannot be read: {error.strerror or error}") from error
    if magic != b"GGUF":
        raise SetupError(f"{file} is not a GGUF file: it begins with {magic!r}")


def _write(file: Path, folder: Path) -> None:
    # Imported late, so that a wrong argument is answered at once.
    stay_offline()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    except (ValueError, KeyError, RuntimeError, NotImplementedError, IndexError) as error:
        raise SetupError(f"{file} cannot be read as a language model: {error}") from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tidy(folder: Path) -> None:
    """Makes the files equal on every machine: no paths, sorted keys, the same permissions, on disk for
    good.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json" and path.name != "tokenizer.json":
            values: dict[str, Any] = json.loads(path.read_text())
            for key in _PRIVATE_KEYS:
                values.pop(key, None)
            path.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    folder.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
