"""The web process: REST, admin and portal."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")
django_application = get_asgi_application()

from marketplace.rest.limits import BodyLimit  # noqa: E402  (needs the settings, which the line above reads)

application = BodyLimit(django_application)
