"""Writes constraints.txt: the exact version of every package that our extras need, and of no other.

Run by `make lock`, with the Python that should decide. Local build tags (`+cpu`) are left out, so that the
file means the same on every index.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
HEADER = "# Written by `make lock`. Exact versions, so that every installation is the same.\n"


def main() -> None:
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--report",
        "-",
    ]
    report = subprocess.run([*command, *wanted], check=True, stdout=subprocess.PIPE, text=True).stdout
    (FOLDER / "constraints.txt").write_text(HEADER + "".join(sorted(lines(json.loads(report)))))


def lines(report: dict[str, Any]) -> list[str]:
    """One `name==version` line for each package of pip's installation report."""
    packages = (item["metadata"] for item in report["install"])
    return [f"{item['name'].lower()}=={item['version'].partition('+')[0]}\n" for item in packages]


if __name__ == "__main__":
    main()
