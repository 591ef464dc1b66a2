"""Runs the demo: brings the product up in a home of its own, takes every step, and takes it down again.

    python -m deployments.demo [--home FOLDER] [--keep-running]

Prints a line per step and a table at the end. Exits 1 when a step fails, saying which, why and where the logs
are.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from openai import OpenAI, OpenAIError

from deployments.demo import steps
from deployments.demo.client import DemoFailed, RestClient
from deployments.demo.steps import Story, demo_file
from deployments.demo.usage import align

CHECKOUT = Path(__file__).resolve().parent.parent.parent

STEPS: list[tuple[str, Callable[[Story], str]]] = [
    ("clear leftovers", steps.clear_leftovers),
    ("browse the catalog", steps.browse_catalog),
    ("plan what cannot fit", steps.plan_too_large),
    ("plan a chat model", steps.plan_chat),
    ("deploy it", steps.deploy_chat),
    ("chat", steps.chat),
    ("stream", steps.stream_chat),
    ("deploy embeddings", steps.deploy_embeddings),
    ("embed", steps.embed),
    ("pause both", steps.pause_all),
    ("refuse a bad dataset", steps.refuse_bad_dataset),
    ("upload a dataset", steps.upload_dataset),
    ("estimate the tuning", steps.estimate_tuning),
    ("fine-tune", steps.fine_tune),
    ("deploy the tuned model", steps.deploy_tuned),
    ("chat with it", steps.chat_tuned),
    ("resume", steps.resume_chat),
    ("delete everything", steps.delete_everything),
    ("bill", steps.bill),
]


@dataclass(frozen=True)
class Outcome:
    name: str
    seconds: float
    proof: str


class Product:
    """The running product, through its own process manager."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._environment = os.environ | {"MARKETPLACE_HOME": str(home)}

    def up(self) -> str:
        self._manage("up", "--detach", "--ports", "auto")
        return f"web at {self.state['web_url']}, gateway at {self.state['gateway_url']}"

    def down(self) -> str:
        self._manage("down")
        return "every process is gone"

    def verify_ledger(self) -> str:
        return self._manage("verify_ledger").strip().splitlines()[-1]

    @property
    def state(self) -> dict[str, str]:
        state: dict[str, str] = json.loads((self.home / "state.json").read_text())
        return state

    @property
    def api_key(self) -> str:
        return str(json.loads((self.home / "credentials.json").read_text())["api_key"])

    def _manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=CHECKOUT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DemoFailed(f"manage.py {arguments[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description="The whole product, once, on a real model.")
    parser.add_argument("--home", type=Path, default=CHECKOUT / "var" / "demo")
    parser.add_argument("--keep-running", action="store_true", help="leave the product up at the end")
    options = parser.parse_args()
    # Ended from outside it stops what it started, as on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    product = Product(options.home.resolve())
    outcomes: list[Outcome] = []
    started = time.monotonic()

    def take(name: str, step: Callable[[], str]) -> None:
        print(f"· {name} …", flush=True)
        began = time.monotonic()
        try:
            proof = step()
        except DemoFailed as error:
            raise DemoFailed(f"step '{name}': {error}") from error
        except (OpenAIError, httpx.HTTPError, OSError, LookupError, ValueError) as error:
            raise DemoFailed(f"step '{name}': {type(error).__name__}: {error}") from error
        outcomes.append(Outcome(name, time.monotonic() - began, proof))
        print(f"  {outcomes[-1].seconds:5.1f} s  {proof}", flush=True)

    failure = ""
    try:
        take("start", product.up)
        with _story(product) as story:
            for name, step in STEPS:
                take(name, partial(step, story))
        take("recompute the bill", product.verify_ledger)
    except DemoFailed as error:
        failure = str(error)
    except KeyboardInterrupt:
        failure = "interrupted"
    finally:
        if not options.keep_running:
            try:
                take("stop", product.down)
            except DemoFailed as error:
                failure = failure or str(error)

    print()
    rows = [("step", "seconds", "proved")]
    rows += [(outcome.name, f"{outcome.seconds:.1f}", outcome.proof) for outcome in outcomes]
    print("\n".join(align(rows)))
    print(f"\n{len(outcomes)} steps in {time.monotonic() - started:.0f} s")
    if failure:
        print(f"\nFAILED: {failure}\nLogs: {product.home / 'logs'}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _story(product: Product) -> Iterator[Story]:
    probe = json.loads(demo_file("probe.json"))
    state, key = product.state, product.api_key
    rest = RestClient(base_url=state["web_url"], api_key=key)
    client = OpenAI(base_url=f"{state['gateway_url']}/v1", api_key=key, timeout=120.0, max_retries=2)
    with closing(rest), client:
        yield Story(
            rest=rest,
            openai=client,
            question=probe["question"],
            expected=probe["expected"],
            say=lambda text: print(f"        {text}", flush=True),
        )


if __name__ == "__main__":
    sys.exit(main())
