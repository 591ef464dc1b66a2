"""What bringing a version into the node's cache costs: `make bench-weights`.

The init container copies and verifies one file of random bytes, beside what one would do by hand: `cp`,
`sync` and `sha256sum` of the copy. Both take turns on the same disk, so that other load hits them alike, and
both find the source in memory: what is measured is our work and not the storage's. Then a second start, which
has nothing to copy, and eight pods that need the version at once.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runtimes.contract import CacheEnvironment, WeightsPhase, parse_weights
from tests.bench.report import bench_line, print_machine

DIGEST = "a" * 64
PODS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; the disk to measure")
    arguments = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measure(Path(folder), mib=arguments.mib, rounds=arguments.rounds)


def measure(folder: Path, *, mib: int, rounds: int) -> None:
    source = folder / "models" / DIGEST
    source.mkdir(parents=True)
    file = source / "model.safetensors"
    sha256 = hashlib.sha256()
    with file.open("wb") as out:
        for _ in range(mib):
            out.write(block := os.urandom(2**20))
            sha256.update(block)
    subprocess.run(["sync"], check=True)
    environment = CacheEnvironment(
        cache_dir=str(folder / "cache"),
        source_dir=str(folder / "models"),
        versions={DIGEST: {file.name: sha256.hexdigest()}},
        free_share=0.0,
    ).to_environment()

    ours, by_hand, copies, hashes, again = [], [], [], [], []
    for _ in range(rounds):
        shutil.rmtree(folder / "cache", ignore_errors=True)
        ours.append(seconds_of([sys.executable, "-m", "runtimes.cache"], environment=environment))
        again.append(seconds_of([sys.executable, "-m", "runtimes.cache"], environment=environment))
        copy = folder / "copy"
        copy.unlink(missing_ok=True)
        copies.append(seconds_of(["cp", str(file), str(copy)]) + seconds_of(["sync", str(copy)]))
        hashes.append(seconds_of(["sha256sum", str(copy)]))
        by_hand.append(copies[-1] + hashes[-1])
    print(
        f"{mib} MiB, median of {rounds}: cp and sync {statistics.median(copies):.2f} s, "
        f"sha256sum {statistics.median(hashes):.2f} s"
    )
    _print("weights-first-start", statistics.median(ours), "cp, sync, sha256sum", statistics.median(by_hand))
    _print("weights-copied-and-verified", statistics.median(ours), "cp, sync", statistics.median(copies))
    _print("weights-second-start", statistics.median(again), "first start", statistics.median(ours))
    shutil.rmtree(folder / "cache")
    seconds, fetched = race(environment)
    print(
        f"{PODS} pods at once: {fetched / 2**20:.0f} MiB read from the storage, all ready in {seconds:.2f} s"
    )
    _print("weights-eight-pods", seconds, "one pod", statistics.median(ours))


def seconds_of(command: list[str], *, environment: dict[str, str] | None = None) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
    return time.perf_counter() - began


def race(environment: dict[str, str]) -> tuple[float, int]:
    """Seconds until all pods are ready, and the bytes that they read from the storage together."""
    began = time.perf_counter()
    pods = [
        subprocess.Popen(
            [sys.executable, "-m", "runtimes.cache"],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PODS)
    ]
    ends = [parse_weights(pod.communicate()[0].splitlines()[-1]) for pod in pods]
    if not all(end and end.phase is WeightsPhase.READY for end in ends):
        raise SystemExit(f"not all became ready: {ends}")
    return time.perf_counter() - began, sum(end.bytes_fetched for end in ends if end)


def _print(name: str, value: float, peer: str, peer_value: float) -> None:
    print(bench_line(name=name, value=value, unit="s", peer=peer, peer_value=peer_value))


if __name__ == "__main__":
    main()
