"""Slows down guessing of passwords: attempts are counted in the shared cache, by REST framework's
throttle.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from django.http import HttpRequest
from redis.exceptions import RedisError
from rest_framework.throttling import SimpleRateThrottle

log = logging.getLogger(__name__)


class _SignInThrottle(SimpleRateThrottle):
    def get_cache_key(self, request: Any, view: Any) -> str:
        # Hashed, because a cache key must not hold the spaces and letters that an e-mail address may.
        return f"sign-in:{self.scope}:{hashlib.sha256(self.counted(request).encode()).hexdigest()}"

    def counted(self, request: HttpRequest) -> str:
        raise NotImplementedError


class ByEmail(_SignInThrottle):
    """One account attacked from many addresses."""

    scope = "email"
    rate = "10/min"

    def counted(self, request: HttpRequest) -> str:
        return str(request.POST.get("username", "")).strip().lower()


class ByAddress(_SignInThrottle):
    """Many accounts attacked from one address. REMOTE_ADDR only: X-Forwarded-For is whatever the caller
    says.
    """

    scope = "address"
    rate = "60/min"

    def counted(self, request: HttpRequest) -> str:
        return str(request.META.get("REMOTE_ADDR", ""))


def seconds_to_wait(request: HttpRequest) -> int:
    """Counts an attempt to sign in; 0 when it may go on, else the seconds until the next may."""
    waits = [0.0]
    for throttle in (ByEmail(), ByAddress()):
        try:
            if not throttle.allow_request(request, None):  # type: ignore[arg-type]
                waits.append(throttle.wait() or 1.0)
        except RedisError:
            # Without the cache people must still get in: passwords are checked as ever, only not slowed down.
            log.warning("The cache does not answer: attempts to sign in are not counted", exc_info=True)
    return int(max(waits) + 0.999)
