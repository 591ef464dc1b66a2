"""A signal may come at any moment."""

import subprocess
import sys

import pytest

COMES_WHILE_THE_EVENT_IS_LOCKED = """
import os, signal, threading
{arrange}
with event._cond:
    os.kill(os.getpid(), signal.SIGTERM)
print(event.wait(10))
"""
ARRANGE = {
    "control plane": "from marketplace.config.signals import set_on; event = threading.Event(); "
    "set_on(event, signal.SIGTERM)",
    "runtimes": "from runtimes.signals import stop_on_signals; event = threading.Event(); "
    "stop_on_signals(event)",
}


@pytest.mark.parametrize("where", ARRANGE)
def test_a_signal_sets_an_event_that_the_main_thread_is_waiting_for(where):
    program = COMES_WHILE_THE_EVENT_IS_LOCKED.format(arrange=ARRANGE[where])
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("True\n", "", 0)
