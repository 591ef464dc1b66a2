"""The gateway process: `uvicorn deployments.gateway.asgi:application`."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")
django.setup()

from django.conf import settings  # noqa: E402  (only now there are settings and models)

from deployments.gateway.application import create_application  # noqa: E402
from deployments.gateway.limits import Limits  # noqa: E402

application = create_application(
    Limits(
        body_bytes=settings.GATEWAY_MAX_BODY_BYTES,
        calls=settings.GATEWAY_MAX_CALLS,
        stop_delay=settings.GATEWAY_STOP_DELAY_SECONDS,
    )
)
