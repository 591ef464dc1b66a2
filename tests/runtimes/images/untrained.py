"""Writes the digits pipeline with the random weights that its training begins with.

    python -m tests.runtimes.images.untrained FOLDER

Enough for all that a server of pictures does but the drawing itself. A program of its own, since it is run
before the server, which imports the same libraries.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from runtimes.images.digits.captions import presets
from runtimes.images.digits.parts import build_pipeline
from runtimes.images.presets import PRESETS_FILE

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.manual_seed(0)
    build_pipeline().save_pretrained(folder, safe_serialization=True)
    (folder / PRESETS_FILE).write_text(json.dumps(presets()) + "\n")
