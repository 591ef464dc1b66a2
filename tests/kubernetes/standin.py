"""A stand-in for a Kubernetes control plane, in a thread of the process that tests.

It is an API server over HTTP on loopback (`api`), with faults on purpose (`api.faults`), controllers and a
scheduler (`controllers`). Nodes for it, and for a real control plane, are in `kubelet`.

    with StandIn(seed=1) as standin:
        standin.kubeconfig(tmp_path / "kubeconfig")   # for any client
        standin.url                                   # http://127.0.0.1:…
        standin.faults.add(Answer(500), verbs={"apply"}, times=2)
        standin.go_away(); standin.come_back()        # connections refused meanwhile
        standin.compact()                             # watches from old revisions get 410 Gone
        standin.do(lambda server: server.store.count(server.kinds["Pod"]))

`do` runs a function in the server's thread, which is the only one that may touch the server. With
`controllers=False` objects stay as they are written, as with an API server alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import yaml
from aiohttp import web

from tests.kubernetes.api.admission import Webhook
from tests.kubernetes.api.faults import Faults
from tests.kubernetes.api.http import Front
from tests.kubernetes.api.logs import LogSource
from tests.kubernetes.api.server import Server
from tests.kubernetes.controllers import make_manager
from tests.kubernetes.controllers.manager import Manager, Pace

T = TypeVar("T")


class StandIn:
    """One control plane on a port of its own."""

    def __init__(
        self,
        *,
        seed: int = 0,
        port: int = 0,
        controllers: bool = True,
        pace: Pace | None = None,
        history: int = 20_000,
        bookmark_seconds: float = 5.0,
    ) -> None:
        self.server = Server(seed=seed, history=history)
        self.faults = Faults()
        self.front = Front(self.server, self.faults, bookmark_seconds=bookmark_seconds)
        self.port = port
        self.manager: Manager | None = make_manager(self.server, pace or Pace()) if controllers else None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="stand-in", daemon=True)
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    # --- Life ----------------------------------------------------------------------------------------------

    def start(self) -> Self:
        self._thread.start()
        self._wait(self._open())
        return self

    def stop(self) -> None:
        """Ends everything; connections are cut."""
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self, path: Path) -> Path:
        """Writes a kubeconfig that leads here."""
        path.write_text(yaml.safe_dump(kubeconfig(self.url)))
        return path

    # --- What tests do to it -------------------------------------------------------------------------------

    def do(self, act: Callable[[Server], T]) -> T:
        """Runs a function in the server's thread and returns what it returns."""

        async def run() -> T:
            return act(self.server)

        return self._wait(run())

    def go_away(self) -> None:
        """The API server is gone: open connections are cut and new ones refused. Controllers stand still."""
        if self.manager:
            self.manager.paused = True
        self._wait(self._leave())

    def come_back(self) -> None:
        """It is there again, at the same address, with all it knew."""
        self._wait(self._listen())
        if self.manager:
            self.do(lambda server: self.manager and self.manager.resume())

    def compact(self) -> None:
        """Forgets the history, so that watches and pages from before get 410 Gone."""
        self.do(lambda server: server.store.compact())

    def skew(self, by: timedelta) -> None:
        """Sets the server's clock so much ahead of this machine's."""
        self.do(lambda server: setattr(server, "clock_skew", by))

    def reject(self, name: str, webhook: Webhook | None) -> None:
        """Adds an admission webhook that may deny requests, or removes it (None)."""
        self.do(lambda server: server.admission.reject(name, webhook))

    def serve_logs(self, source: LogSource) -> None:
        """Says where the logs of containers come from."""
        self.front.log_source = source

    # --- The thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    async def _open(self) -> None:
        self._runner = web.AppRunner(
            # A watch ends with its connection, not when it next has something to say.
            self.front.application(),
            access_log=None,
            shutdown_timeout=0,
            handler_cancellation=True,
        )
        await self._runner.setup()
        await self._listen()
        if self.manager:
            self.manager.start()

    async def _listen(self) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()
        server = self._site._server
        assert isinstance(server, asyncio.Server)
        self.port = server.sockets[0].getsockname()[1]

    async def _leave(self) -> None:
        assert self._runner is not None
        if self._site is not None:
            await self._site.stop()
            self._site = None
        if self._runner.server is not None:
            for connection in list(self._runner.server.connections):
                if connection.transport is not None:
                    connection.transport.abort()

    async def _close(self) -> None:
        if self.manager:
            self.manager.stop()
        await self._leave()
        assert self._runner is not None
        await self._runner.cleanup()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def kubeconfig(url: str) -> dict[str, Any]:
    """A kubeconfig for a server that asks for no credentials."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stand-in", "cluster": {"server": url}}],
        "users": [{"name": "anybody", "user": {}}],
        "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "anybody"}}],
        "current-context": "stand-in",
    }
