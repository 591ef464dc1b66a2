"""Prints requirements of pyproject.toml, one a line: those of the project, or of the extra that is named.

For images: they install what a program needs before they copy the program, so that a change of ours does not
download everything again. Standard library only.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(extra: str | None) -> list[str]:
    """Raises KeyError for an extra that is not there."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    return list(project["optional-dependencies"][extra] if extra else project["dependencies"])


if __name__ == "__main__":
    print(*requirements(sys.argv[1] if len(sys.argv) > 1 else None), sep="\n")
