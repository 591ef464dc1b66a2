"""The entry point of a serving container: `python -m runtimes.server`, told what to do by RUNTIME_*
variables.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import uvicorn

from runtimes.contract import ContractError, ExitCode, ServingEnvironment
from runtimes.errors import SetupError
from runtimes.served import ServedModel
from runtimes.server.application import ROUTES, make_application
from runtimes.server.lifecycle import Phase, Serving
from runtimes.server.loading import load_model

logger = logging.getLogger("runtimes.server")


def main() -> ExitCode:
    """Serves until SIGTERM or a failure; returns how it ended."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.WARNING)
    # Threads of torch that wait for each other must not spin: several servers may share the cores of one
    # machine. Read when torch is imported, which is later than this.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        environment = ServingEnvironment.from_environment(os.environ)
        if environment.task not in ROUTES:
            tasks = ", ".join(task.value for task in ROUTES)
            raise SetupError(
                f"RUNTIME_TASK={environment.task.value} is not served by this image; it serves {tasks}"
            )
        if environment.max_concurrency < 1 or environment.max_queue < 0:
            raise SetupError("RUNTIME_MAX_CONCURRENCY must be at least 1 and RUNTIME_MAX_QUEUE at least 0")
    except (ContractError, SetupError) as error:
        logger.error("wrong configuration: %s", error)
        return ExitCode.BAD_CONFIGURATION
    return asyncio.run(serve(environment))


async def serve(environment: ServingEnvironment) -> ExitCode:
    """Runs the server in this event loop.

    1. Listen, so that /live answers.
    2. Load the model in a thread, start it, let it answer once: ready.
    3. Wait for a reason to end.
    4. On SIGTERM: not ready any more, let running requests finish, stop.
    """
    serving = Serving(environment)
    server = _Server(
        uvicorn.Config(
            make_application(serving),
            host=environment.host,
            port=environment.port,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.end, ExitCode.DONE)
    listening = asyncio.create_task(_listen(server, serving))
    preparing = asyncio.create_task(_prepare(serving))
    code = await serving.exit_code
    if code is ExitCode.DONE and serving.phase is Phase.READY:
        logger.info("draining for up to %.0f s", environment.drain_seconds)
        finished = await serving.drain()
        logger.info("drained" if finished else "the time to drain was over; what still ran was cut off")
    serving.phase = Phase.DRAINING
    server.should_exit = True
    preparing.cancel()
    await asyncio.gather(listening, preparing, return_exceptions=True)
    return code


async def _listen(server: uvicorn.Server, serving: Serving) -> None:
    try:
        await server.serve()
    except SystemExit:
        # uvicorn's way to say that it cannot have the address; it has logged why.
        serving.end(ExitCode.BAD_CONFIGURATION)


async def _prepare(serving: Serving) -> None:
    loop = asyncio.get_running_loop()

    def fail(error: BaseException) -> None:
        logger.critical("the engine failed: %s", error)
        loop.call_soon_threadsafe(serving.end, ExitCode.INTERNAL)

    try:
        started = perf_counter()
        model = await _in_daemon_thread(serving)
        serving.load_seconds = perf_counter() - started
        model.start(on_failure=fail)
        started = perf_counter()
        await model.warm_up()
        serving.warm_up_seconds = perf_counter() - started
    except SetupError as error:
        logger.error("wrong configuration: %s", error)
        serving.end(ExitCode.BAD_CONFIGURATION)
    except Exception:
        logger.exception("the model could not be brought up")
        serving.end(ExitCode.INTERNAL)
    else:
        serving.model = model
        serving.phase = Phase.READY
        logger.info(
            "ready: %s on %s, %s, loaded in %.1f s, warm after %.1f s more",
            serving.environment.model_name,
            model.facts.device,
            model.facts.dtype,
            serving.load_seconds,
            serving.warm_up_seconds,
        )


async def _in_daemon_thread(serving: Serving) -> ServedModel:
    """Loads the model in a thread that does not hold up the end of the process, as an executor's would."""
    loop = asyncio.get_running_loop()
    loaded: asyncio.Future[ServedModel] = loop.create_future()

    def load() -> None:
        try:
            model = load_model(serving.environment)
        except BaseException as error:
            loop.call_soon_threadsafe(_settle, loaded, None, error)
        else:
            loop.call_soon_threadsafe(_settle, loaded, model, None)

    threading.Thread(target=load, name="load", daemon=True).start()
    return await loaded


def _settle(
    loaded: asyncio.Future[ServedModel], model: ServedModel | None, error: BaseException | None
) -> None:
    if loaded.done():
        return
    if error is not None:
        loaded.set_exception(error)
    elif model is not None:
        loaded.set_result(model)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: what a signal means is decided in `serve`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    # Threads of torch and of the engine may still compute; nothing of theirs is worth waiting for.
    os._exit(exit_code)
