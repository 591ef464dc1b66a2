"""The web process: REST, admin and portal."""

import os

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")
if settings.SECRET_KEY == "not-set":
    raise ImproperlyConfigured("SECRET_KEY is not set: see `manage.py check --deploy`")
django.setup(set_prefix=False)

# These need the settings, which the line above reads.
from marketplace.config.handler import ThreadsHandler  # noqa: E402
from marketplace.config.probes import Probes  # noqa: E402
from marketplace.rest.limits import BodyLimit  # noqa: E402

application = Probes(BodyLimit(ThreadsHandler()))
