"""`python -m tests.conformance [BASE_URL]`: each check with its result, and a score for each group."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx

from runtimes.contract import Task
from tests.conformance.checks import Check, Skipped, find_checks
from tests.conformance.own_servers import own_servers
from tests.conformance.target import SECONDS, Target


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("url", nargs="?", help="of any server, without /v1; nothing = this project's own")
    parser.add_argument("--model", help="its name; nothing = the first that the server lists")
    parser.add_argument("--task", choices=[task.value for task in Task], default=Task.TEXT_GENERATION.value)
    parser.add_argument("--key", default="unused", help="API key")
    parser.add_argument("--group", action="append", help="only this group; may be repeated")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    checks = [check for check in find_checks() if not arguments.group or check.group in arguments.group]
    if arguments.url is None:
        with own_servers() as targets:
            return report(checks, targets)
    url = arguments.url.rstrip("/").removesuffix("/v1")
    with _target(url, model=arguments.model, key=arguments.key) as target:
        return report(checks, {Task(arguments.task): target})


def report(checks: list[Check], targets: dict[Task, Target]) -> int:
    """Runs the checks that there is a server for, and prints; 1 when any failed."""
    passed, failed, skipped = Counter[str](), Counter[str](), Counter[str]()
    for check in checks:
        if check.task not in targets:
            continue
        try:
            check.run(targets[check.task])
        except Skipped as reason:
            skipped[check.group] += 1
            print(f"skip  {check.id}: {reason}", flush=True)
        except Exception as error:
            failed[check.group] += 1
            lines = str(error).strip().splitlines() or [""]
            print(f"FAIL  {check.id}: {type(error).__name__}: {lines[0][:200]}", flush=True)
        else:
            passed[check.group] += 1
            print(f"pass  {check.id}", flush=True)
    print()
    for group in sorted(passed.keys() | failed.keys() | skipped.keys()):
        of = passed[group] + failed[group]
        note = f", {skipped[group]} skipped" if skipped[group] else ""
        print(f"{group:<16} {passed[group]:>3} of {of}{note}")
    print(f"{'all':<16} {passed.total():>3} of {passed.total() + failed.total()}")
    return 1 if failed else 0


@contextmanager
def _target(url: str, *, model: str | None, key: str) -> Iterator[Target]:
    if model is None:
        listed = httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=SECONDS)
        model = listed.raise_for_status().json()["data"][0]["id"]
    with closing(Target(url=url, model=str(model), api_key=key)) as target:
        yield target


if __name__ == "__main__":
    sys.exit(main())
