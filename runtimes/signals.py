"""How a signal asks a process to stop."""

from __future__ import annotations

import _thread
import signal
import threading


def stop_on_signals(stop: threading.Event) -> None:
    """From now on SIGTERM and SIGINT set the event, a moment later and from a thread of its own.

    A handler runs in the middle of whatever the main thread is doing. When that is `stop.wait()`, the main
    thread may hold the event's lock, which `stop.set()` wants, and the process would hang for ever. The
    thread is started without `threading`, whose `start` takes locks too.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _thread.start_new_thread(stop.set, ()))
