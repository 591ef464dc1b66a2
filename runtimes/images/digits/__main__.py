"""Trains the digits pipeline and writes it as an ordinary folder of diffusers.

    python -m runtimes.images.digits FOLDER

Takes about six minutes of CPU time. The folder appears whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from runtimes.contract import ExitCode
from runtimes.images.presets import PRESETS_FILE
from runtimes.weights import stay_offline


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m runtimes.images.digits", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="must not exist yet")
    folder: Path = parser.parse_args(arguments).folder
    if folder.exists():
        print(f"{folder} already exists; remove it or name another folder", file=sys.stderr)
        return ExitCode.BAD_INPUT
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stay_offline()
    # Imported late, so that a wrong argument is answered at once.
    from runtimes.images.digits.captions import presets
    from runtimes.images.digits.training import train

    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename within one file system.
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        train().save_pretrained(work, safe_serialization=True)
        (work / PRESETS_FILE).write_text(json.dumps(presets(), indent=2) + "\n")
        work.chmod(0o755)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
