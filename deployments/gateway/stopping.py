"""How a gateway process stops without failing a call.

Told to stop, it first says that it is not ready and goes on answering for a while: whoever spreads calls
over gateways (a Kubernetes Service, a load balancer) takes some seconds to leave it out, and sends calls
meanwhile. Only then the server stops to listen, and ends once the last call has been answered.

The server's own handler of SIGTERM stops to listen at once. It is kept, and called later.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from types import FrameType

logger = logging.getLogger(__name__)


class Stopping:
    """Whether this process was told to stop."""

    def __init__(self, *, delay: float) -> None:
        self._delay = delay
        self.has_begun = False

    def install(self) -> None:
        """Takes over SIGTERM from the server that runs in this event loop.

        A server in a thread of a larger program, as in tests, gets no signals: nothing is done.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        servers_own = signal.getsignal(signal.SIGTERM)
        if not callable(servers_own):
            return

        def begin(number: int) -> None:
            again, self.has_begun = self.has_begun, True
            if again:
                servers_own(number, None)  # whoever says it twice does not want to wait
                return
            logger.info("Not ready any more; answering for another %g s", self._delay)
            loop.call_later(self._delay, servers_own, number, None)

        def handle(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(begin, number)

        signal.signal(signal.SIGTERM, handle)
