"""The runtimes beside the libraries a user would otherwise pick, in one run: `make bench-runtimes`.

Each part is a module `tests.bench.runtimes_<part>` with `measure(rounds)`, which returns rows, or a program
of its own that takes `--rounds`. Whoever is compared takes turns with us within a round, so that other load
on the machine hits all alike; the ratio is the median of the rounds' own, with its spread beside it. Nothing
is written: what is worth keeping goes into runtimes/BENCHMARKS.md by hand, with the machine it came from.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tests.bench.report import print_machine
from tests.bench.rows import HEADER, Part

# Threads that wait for each other must not spin: others use the machine too. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def parts() -> list[str]:
    """The names of all parts."""
    return sorted(file.stem.removeprefix("runtimes_") for file in Path(__file__).parent.glob("runtimes_*.py"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=parts(), default=parts(), help="which to run")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    print_machine("torch", "transformers", "numpy")
    for name in options.parts:
        print(f"\n{name}", flush=True)
        module = f"tests.bench.runtimes_{name}"
        measure: Part | None = getattr(import_module(module), "measure", None)
        if measure is None:
            subprocess.run([sys.executable, "-m", module, "--rounds", str(options.rounds)], check=True)
            continue
        print(HEADER)
        for row in measure(options.rounds):
            print(row)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
