"""What one gateway process allows itself and its callers. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    body_bytes: int = 26_214_400
    """Largest request; OpenAI's own limit for audio files is 25 MB."""
    calls: int = 1000
    """Calls in progress in this process; one more is told to come again (503)."""
    attempts: int = 3
    """Replicas that one call may be tried on."""
    connect: float = 2.0
    """To reach a replica; they are near."""
    answer: float = 600.0
    """Longest silence of a replica, before its first byte or between two. The OpenAI SDKs wait as long."""
    stall: float = 60.0
    """Longest time a caller may leave what it has been sent unread; then its slot is freed."""
    key_age: float = 5.0
    """How long a key that was accepted or refused is not looked up again; a revocation takes this long."""
    directory_age: float = 1.0
    """How old the list of ready replicas may be."""
    stale: float = 60.0
    """How long keys and replicas already known may be used while the database does not answer."""
    suspicion: float = 3.0
    """How long a replica that failed a call gets none while another is ready."""
    stop_delay: float = 5.0
    """Told to stop, how long it goes on answering while it says that it is not ready."""
    flush: float = 3.0
    """Between two writes of counts; a killed process loses at most this much of them."""
