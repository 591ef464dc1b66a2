"""A container that starts in a tenth of a second: answers the runtime's probes and serves nothing.

Chaos is about the machinery around a container. With `--real` the real runtime runs instead.
"""

from __future__ import annotations

import http.server
import os
import signal
import sys
import time
from types import FrameType

from runtimes.contract import LIVE_PATH, METRICS_PATH, READY_PATH, ServingEnvironment


class Probes(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path in (LIVE_PATH, READY_PATH, METRICS_PATH)
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Probes are no news."""


def end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    environment = ServingEnvironment.from_environment(os.environ)
    print(f"standin {time.time()} serves {environment.model_name}", flush=True)
    http.server.ThreadingHTTPServer((environment.host, environment.port), Probes).serve_forever()
