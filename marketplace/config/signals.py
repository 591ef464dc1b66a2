"""How a signal sets an event."""

from __future__ import annotations

import _thread
import signal
import threading


def set_on(event: threading.Event, *numbers: signal.Signals) -> None:
    """From now on any of these signals sets the event, a moment later and from a thread of its own.

    A handler runs in the middle of whatever the main thread is doing. When that is `event.wait()`, the main
    thread may hold the event's lock, which `event.set()` wants, and the process would hang for ever. The
    thread is started without `threading`, whose `start` takes locks too.
    """
    for number in numbers:
        signal.signal(number, lambda *_: _thread.start_new_thread(event.set, ()))
