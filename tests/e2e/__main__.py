"""Runs the journey and prints a line per step: what was done, what it proved, how long it took.

    MARKETPLACE_TEST_KUBECONFIG=… python -m tests.e2e [--keep]

Exits 1 when a step failed. Without a kubeconfig it says so and exits 0: there is nothing to run on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from pathlib import Path

from openai import OpenAI

from deployments.demo.client import RestClient
from tests.e2e.cluster import Kube
from tests.e2e.installation import NAMESPACE, Installation
from tests.e2e.steps import STEPS, Skipped, World


def main() -> int:
    parser = argparse.ArgumentParser(description="Drives the product, chart included, on Kubernetes.")
    parser.add_argument("--keep", action="store_true", help="leave the installation as it is at the end")
    options = parser.parse_args()
    kubeconfig = os.environ.get("MARKETPLACE_TEST_KUBECONFIG")
    if not kubeconfig:
        print("skipped: MARKETPLACE_TEST_KUBECONFIG names no cluster")
        return 0
    kube = Kube(Path(kubeconfig))
    installation = Installation(kube)
    print(f"Kubernetes {kube.version}")
    failed = 0
    began = time.monotonic()
    try:
        _step(0, "Install the chart", installation.install)
        world = World(
            kube=kube,
            rest=RestClient(base_url=installation.web_url, api_key=installation.api_key),
            openai=OpenAI(base_url=f"{installation.gateway_url}/v1", api_key=installation.api_key),
            gateway_url=installation.gateway_url,
            api_key=installation.api_key,
            say=lambda text: print(f"      {text}", flush=True),
        )
        for number, (title, step) in enumerate(STEPS, start=1):
            _step(number, title, lambda step=step: step(world))
    except Exception:
        failed = 1
        traceback.print_exc()
        for text in kube.logs(NAMESPACE, ""):
            print(text)
    finally:
        if not options.keep:
            installation.remove()
    print(f"{len(STEPS) + 1} steps, {failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    return failed


def _step(number: int, title: str, step: object) -> None:
    began = time.monotonic()
    assert callable(step)
    try:
        proof = step()
    except Skipped as reason:
        proof = f"skipped: {reason}"
    print(f"{number:2}  {title} ({time.monotonic() - began:.1f} s)\n      {proof}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
