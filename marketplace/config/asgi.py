"""The web process: REST, admin and portal."""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")
if settings.SECRET_KEY == "not-set":
    raise ImproperlyConfigured("SECRET_KEY is not set: see `manage.py check --deploy`")
django_application = get_asgi_application()

# These need the settings, which the line above reads.
from marketplace.config.probes import Probes  # noqa: E402
from marketplace.rest.limits import BodyLimit  # noqa: E402

application = Probes(BodyLimit(django_application))
