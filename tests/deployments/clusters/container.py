"""A small stand-in for a runtime container: does what its environment and arguments tell it. Stdlib only.

serve          answers /ready (503 until READY_AFTER seconds, and while UNREADY_FILE exists), /live (500
               while SICK_FILE exists), /environ, /args and /pid. On SIGTERM it ends after STOP_SECONDS
               with STOP_CODE, or not at all if IGNORE_TERM is set
linger         the same, having left a grandchild in a session of its own
exit CODE...   ends with the code; with several, run N (counted in COUNT_FILE) ends with the Nth, the
               last for all later ones
print TEXT...  one line each
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

started = time.monotonic()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers = {
            "/ready": (200 if is_ready() else 503, "ready"),
            "/live": (500 if os.path.exists(os.environ.get("SICK_FILE", "")) else 200, "live"),
            "/environ": (200, json.dumps(dict(os.environ))),
            "/args": (200, json.dumps(sys.argv[2:])),
            "/pid": (200, str(os.getpid())),
        }
        status, text = answers.get(self.path, (404, "?"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        pass


def is_ready() -> bool:
    waited = time.monotonic() - started >= float(os.environ.get("READY_AFTER", "0"))
    return waited and not os.path.exists(os.environ.get("UNREADY_FILE", ""))


def stop(*_: object) -> None:
    print("stopping", flush=True)
    time.sleep(float(os.environ.get("STOP_SECONDS", "0")))
    os._exit(int(os.environ.get("STOP_CODE", "0")))


def serve() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "IGNORE_TERM" in os.environ else stop)
    host, port = os.environ.get("RUNTIME_HOST", "127.0.0.1"), int(os.environ.get("RUNTIME_PORT", "8000"))
    server = ThreadingHTTPServer((host, port), Handler)
    print(f"serving on {host}:{port}", flush=True)
    server.serve_forever()


def end(codes: list[str]) -> None:
    run = 0
    if "COUNT_FILE" in os.environ:
        with open(os.environ["COUNT_FILE"], "a+") as file:
            run = file.tell()
            file.write("x")
    code = codes[min(run, len(codes) - 1)]
    print(f"run {run + 1} exits with {code}", flush=True)
    sys.exit(int(code))


def main() -> None:
    verb, *words = sys.argv[1:]
    if verb == "exit":
        end(words)
    if verb == "print":
        for word in words:
            print(word, flush=True)
        return
    if verb == "linger":
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        print(f"grandchild {child.pid}", flush=True)
    serve()


if __name__ == "__main__":
    main()
