"""The one thing that an API server asks of a kubelet: the log of a container, over HTTPS."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from aiohttp import web

ReadLog = Callable[[str, str, str, bool], list[tuple[datetime, bytes]] | None]
"""(namespace, pod, container, of the run before?) -> lines and when they were written; None = not begun."""


class LogServer:
    """Serves /containerLogs on a port of its own, with a certificate that nobody has signed."""

    def __init__(self, folder: Path, read: ReadLog) -> None:
        self.port = 0
        self._folder, self._read = folder, read
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)

    async def start(self) -> None:
        certificate, key = self._folder / "kubelet.crt", self._folder / "kubelet.key"
        words = (
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        )
        names = ("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=kubelet")
        subprocess.run([*words, *names], check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        place, query = request.match_info, request.query
        previous = query.get("previous") == "true"
        lines = self._read(place["namespace"], place["pod"], place["container"], previous)
        if lines is None:
            return web.Response(status=400, text=f'container "{place["container"]}" has no such log')
        if tail := query.get("tailLines"):
            lines = lines[-int(tail) :] if int(tail) else []
        if query.get("timestamps") == "true":
            lines = [(at, f"{at:%Y-%m-%dT%H:%M:%S.%f}000Z ".encode() + line) for at, line in lines]
        return web.Response(body=b"".join(line for _, line in lines), content_type="text/plain")
