"""Bin packing alone: `make bench-packing`."""

from __future__ import annotations

from tests.bench import runtimes

if __name__ == "__main__":
    runtimes.main(["--parts", "packing"])
