"""The entry point of the init container: `python -m runtimes.cache`, told what to do by RUNTIME_* variables
(`runtimes.contract.CacheEnvironment`). Needs nothing but the standard library, so that it starts at once.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from runtimes.cache.failures import CacheFailure, WrongConfiguration
from runtimes.cache.fetch import Fetcher, Version
from runtimes.cache.layout import Cache, check_versions
from runtimes.cache.progress import Reporter
from runtimes.contract import CacheEnvironment, ContractError, ExitCode, WeightsPhase
from runtimes.signals import stop_on_signals

logger = logging.getLogger("runtimes.cache")

TERMINATION_LOG = Path("/dev/termination-log")
"""What a container writes here Kubernetes shows as the message of its end."""


def main() -> ExitCode:
    """Brings the versions, and returns how that ended."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    stop = threading.Event()
    stop_on_signals(stop)
    reporter = Reporter()
    try:
        bring_all(CacheEnvironment.from_environment(os.environ), reporter=reporter, stop=stop)
    except CacheFailure as error:
        return _fail(reporter, str(error), error.code)
    except ContractError as error:
        return _fail(reporter, str(error), ExitCode.BAD_CONFIGURATION)
    except Exception as error:
        logger.exception("the weights could not be brought into the cache")
        return _fail(reporter, f"an error of ours ended it: {error}", ExitCode.INTERNAL)
    reporter.tell(WeightsPhase.READY)
    return ExitCode.DONE


def bring_all(environment: CacheEnvironment, *, reporter: Reporter, stop: threading.Event) -> None:
    """Returns once the cache holds all versions. Raises CacheFailure."""
    check_versions(environment.versions)
    if not 0 <= environment.free_share < 1:
        raise WrongConfiguration(
            f"RUNTIME_FREE_SHARE={environment.free_share} must be at least 0 and less than 1"
        )
    fetcher = Fetcher(
        cache=Cache(Path(environment.cache_dir)),
        reporter=reporter,
        stop=stop,
        needed=environment.versions.keys(),
        free_share=environment.free_share,
    )
    versions = [
        Version(digest=digest, files=files, source=Path(environment.source_dir) / digest)
        for digest, files in environment.versions.items()
    ]
    reporter.total = sum(fetcher.size(version) for version in versions)
    for version in versions:
        fetcher.bring(version)


def _fail(reporter: Reporter, message: str, code: ExitCode) -> ExitCode:
    logger.error("%s", message)
    reporter.tell(WeightsPhase.FAILED, message=message)
    # Outside of a pod it does not exist, and must not be made.
    with suppress(OSError), TERMINATION_LOG.open("r+") as file:
        file.write(message[:4096])
    return code


if __name__ == "__main__":
    sys.exit(main())
