"""One round of chaos: a wish, a few kills around it, and the wait until everything is right again."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from tests.chaos import facts
from tests.chaos.product import Product, Refused

MODEL = "sentence-transformers/all-minilm-l6-v2"
FLAVOR = "cpu-small"
VICTIMS = ("worker", "watch", "cluster", "postgres", "valkey", "beat", "web", "gateway", "container")
MOST_DEPLOYMENTS = 2
MOST_REPLICAS = 2
KILLING_SECONDS = 3.0
"""Kills fall within this time after the wish was sent."""
SETTLING_SECONDS = 60.0
"""How long everything may take to be right again."""
QUIET_SECONDS = 0.5
"""Right twice, this far apart, counts as settled."""


@dataclass
class Wish:
    """What we asked for one deployment, and so expect to see."""

    id: str
    name: str
    replicas: int = 1
    state: str = "running"
    """running, paused or deleted."""

    @property
    def pods(self) -> int:
        return self.replicas if self.state == "running" else 0


@dataclass
class World:
    """Everything that was ever wished in this run."""

    product: Product
    dice: random.Random
    wishes: list[Wish] = field(default_factory=list)

    @property
    def living(self) -> list[Wish]:
        return [wish for wish in self.wishes if wish.state != "deleted"]


def play_round(world: World) -> tuple[str, list[str]]:
    """What was done, and what was still wrong when the patience was over."""
    dice = world.dice
    kills = sorted(
        (dice.uniform(0, KILLING_SECONDS), dice.choice(VICTIMS), dice.random())
        for _ in range(dice.randint(1, 3))
    )
    killed: list[str] = []
    killer = threading.Thread(target=_kill_all, args=(world.product, kills, killed))
    killer.start()
    try:
        done = make_a_wish(world)
    finally:
        killer.join()
    story = f"{done}; killed {', '.join(killed) or 'nothing'}"
    return story, wait_until_settled(world)


def make_a_wish(world: World) -> str:
    """Asks for one random change; returns it in words."""
    dice, product = world.dice, world.product
    if not world.living or (len(world.living) < MOST_DEPLOYMENTS and dice.random() < 0.4):
        name, replicas = f"chaos-{len(world.wishes)}", dice.randint(1, MOST_REPLICAS)
        body = {"name": name, "model": MODEL, "flavor": FLAVOR, "replicas": replicas}
        document = product.request("POST", "deployments/", body)
        world.wishes.append(Wish(id=document["id"], name=name, replicas=replicas))
        return f"created {name} with {replicas}"
    wish = dice.choice(world.living)
    path = f"deployments/{wish.id}/"
    if wish.state == "paused":
        choice = dice.choice(("resume", "delete"))
    else:
        choice = dice.choice(("scale", "pause", "delete"))
    if choice == "scale":
        wish.replicas = MOST_REPLICAS + 1 - wish.replicas
        product.request("PATCH", path, {"replicas": wish.replicas})
        return f"scaled {wish.name} to {wish.replicas}"
    if choice == "delete":
        delete(world, wish)
        return f"deleted {wish.name}"
    product.request("POST", f"{path}{choice}/")
    wish.state = "paused" if choice == "pause" else "running"
    return f"{choice}d {wish.name}"


def delete(world: World, wish: Wish) -> None:
    """Asks for the deployment to go. The answer to a first request may have been lost: gone is fine."""
    try:
        world.product.request("DELETE", f"deployments/{wish.id}/")
    except Refused as refusal:
        if refusal.status not in (404, 409):
            raise
    wish.state = "deleted"


def wait_until_settled(world: World) -> list[str]:
    """Empty once nothing is wrong, twice in a row; else what was wrong at the end."""
    deadline = time.monotonic() + SETTLING_SECONDS
    was_right = False
    while True:
        wrong = find_wrongs(world)
        if not wrong and was_right:
            return []
        was_right = not wrong
        if time.monotonic() > deadline:
            return wrong
        time.sleep(QUIET_SECONDS if was_right else 0.2)


def find_wrongs(world: World) -> list[str]:
    """Everything that is not as wished at this moment."""
    product = world.product
    found = [f"{name} is down" for name in product.down_components()]
    if found:
        return found  # the others cannot be asked
    try:
        for wish in world.wishes:
            found += _wrong_deployment(product, wish)
        replicas = facts.read_replicas(product.home)
    except (Refused, TimeoutError, OSError, facts.psycopg2.Error) as error:
        return [*found, f"cannot look: {error}"]
    found += _wrong_containers(world)
    found += facts.wrong_bills(replicas)
    found += facts.billed_outages(replicas, facts.read_restarts(product.home))
    found += facts.unrecorded_containers(replicas, facts.read_container_logs(product.home))
    gone = {wish.id for wish in world.wishes if wish.state == "deleted"}
    found += [
        f"pod {replica.uid} of a deleted deployment has no end on record"
        for replica in replicas
        if replica.resource in gone and replica.ended_at is None
    ]
    return found


def _wrong_deployment(product: Product, wish: Wish) -> list[str]:
    document = product.request("GET", f"deployments/{wish.id}/")
    seen = (document["state"], document["ready_replicas"])
    expected = (wish.state, wish.pods)
    return [] if seen == expected else [f"{wish.name} is {seen}, should be {expected}"]


def _wrong_containers(world: World) -> list[str]:
    running = Counter(
        environment.get("RUNTIME_MODEL_NAME", "?") for environment in world.product.containers().values()
    )
    expected = {wish.name: wish.pods for wish in world.wishes}
    names = sorted(set(running) | set(expected))
    return [
        f"{running[name]} containers of {name} run, should be {expected.get(name, 0)}"
        for name in names
        if running[name] != expected.get(name, 0)
    ]


def _kill_all(product: Product, kills: list[tuple[float, str, float]], killed: list[str]) -> None:
    started = time.monotonic()
    for at, victim, share in kills:
        time.sleep(max(0.0, started + at - time.monotonic()))
        if victim != "container":
            if product.kill(victim):
                killed.append(victim)
            continue
        containers = sorted(product.containers())
        if containers:
            with suppress(ProcessLookupError):
                os.kill(containers[int(share * len(containers))], signal.SIGKILL)
                killed.append("a container")
