"""Runs rounds of chaos against a product of its own.

    python -m tests.chaos [--rounds N] [--seed S] [--real] [--keep]

Prints the seed, a line per round and `N rounds, N wrong`. Exits 1 when any was wrong. The seed decides the
wishes, the victims and the moments; the machine's own timing does the rest.
"""

from __future__ import annotations

import argparse
import random
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.product import Product
from tests.chaos.rounds import World, delete, play_round, wait_until_settled
from tests.processes import processes_of

MANAGER_EVERY = 10
"""Every tenth round also kills the manager and starts it again."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Kills components at random; checks that all comes right.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None, help="repeat the choices of an earlier run")
    parser.add_argument("--real", action="store_true", help="run the real embedding model in the containers")
    parser.add_argument("--keep", action="store_true", help="keep the home of the run, logs and all")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    home = Path(tempfile.mkdtemp(prefix="marketplace-chaos-"))
    print(f"seed {seed}, home {home}", flush=True)

    product = Product(home, real=options.real)
    world = World(product=product, dice=random.Random(seed))
    wrong = 0
    try:
        product.up()
        for number in range(1, options.rounds + 1):
            wrong += _report(number, world)
        wrong += _report_end(world)
    finally:
        product.down()
    if left := processes_of(home):
        wrong += 1
        print("left behind after the end:", *left, sep="\n  ")
    if options.keep or wrong:
        print(f"logs are kept in {product.home.logs}")
    else:
        shutil.rmtree(home)
    print(f"seed {seed}: {options.rounds} rounds, {wrong} wrong", flush=True)
    return 1 if wrong else 0


def _report(number: int, world: World) -> bool:
    started = time.monotonic()
    if number % MANAGER_EVERY == 0:
        world.product.kill_manager()
    story, wrongs = play_round(world)
    if number % MANAGER_EVERY == 0:
        story += " after the manager was killed"
    return _print(f"round {number}", story, wrongs, seconds=time.monotonic() - started)


def _report_end(world: World) -> bool:
    started = time.monotonic()
    for wish in world.living:
        delete(world, wish)
    return _print("end", "deleted everything", wait_until_settled(world), seconds=time.monotonic() - started)


def _print(name: str, story: str, wrongs: list[str], *, seconds: float) -> bool:
    print(f"{name}: {story}: {'WRONG' if wrongs else 'right'} after {seconds:.1f} s", flush=True)
    for sentence in wrongs:
        print(f"  {sentence}", flush=True)
    return bool(wrongs)


if __name__ == "__main__":
    sys.exit(main())
