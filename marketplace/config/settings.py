"""Django settings. Everything comes from the environment; with nothing set, the embedded defaults.

A secret may also be given as a file: NAME_FILE names it (as container platforms mount secrets).
README lists every variable under "Configuration".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import django_stubs_ext
import environ
from django.core.exceptions import ImproperlyConfigured

from marketplace.embedded.paths import Home

BASE_DIR = Path(__file__).resolve().parent.parent.parent
env = environ.FileAwareEnv()

# Lets `admin.ModelAdmin[Deployment]` and the like be written without quotes.
django_stubs_ext.monkeypatch()


def env_bool(name: str, *, default: bool) -> bool:
    """True or False, and nothing else: a typing error must not switch a safety off."""
    text = os.environ.get(name, str(default))
    if text not in ("True", "False"):
        raise ImproperlyConfigured(f"{name}={text!r} is not usable: write True or False")
    return text == "True"


def env_url(name: str, *, default: str, schemes: tuple[str, ...]) -> str:
    """A URL of one of the given schemes."""
    text = str(env(name, default=default))
    if text.partition("://")[0] not in schemes:
        allowed = ", ".join(f"{scheme}://" for scheme in schemes)
        raise ImproperlyConfigured(f"{name} is not usable: it must start with one of {allowed}")
    return text


# --- Where things are --------------------------------------------------------------------------------------

MARKETPLACE_HOME = Home(Path(str(env("MARKETPLACE_HOME", default=str(BASE_DIR / "var")))).resolve())
WEB_URL = env_url("WEB_URL", default="http://127.0.0.1:8080", schemes=("http", "https"))
GATEWAY_URL = env_url("GATEWAY_URL", default="http://127.0.0.1:8081", schemes=("http", "https"))
STORAGE_ROOT = Path(str(env("STORAGE_ROOT", default=str(MARKETPLACE_HOME.storage)))).resolve()

# --- Security ----------------------------------------------------------------------------------------------

DEBUG = env_bool("DEBUG", default=False)


def _secret_key() -> str:
    value = str(env("SECRET_KEY", default=""))
    if not value and MARKETPLACE_HOME.secret_key.exists():
        value = MARKETPLACE_HOME.secret_key.read_text().strip()
    # Commands that need no secret (makemigrations, spectacular) run without one; the system check
    # config.E001 refuses to serve that way.
    return value or "not-set"


SECRET_KEY = _secret_key()
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[WEB_URL])
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = WEB_URL.startswith("https://")
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],  # icons of the API documentation
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        # The button that opens a workspace leads there.
        "form-action": ["'self'", GATEWAY_URL],
        "frame-ancestors": ["'none'"],
    }
}

# --- Applications ------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "marketplace.config",
    "marketplace.embedded",
    "marketplace.accounts",
    "marketplace.catalog",
    "marketplace.hardware",
    "marketplace.billing",
    "marketplace.rest",
    "marketplace.web",
    "deployments.serving",
    "deployments.tuning",
    "deployments.workspaces",
    "deployments.clusters",
    "deployments.reconcile",
    "deployments.gateway",
]

MIDDLEWARE = [
    "marketplace.rest.request_ids.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "marketplace.web.static_files.StaticFilesMiddleware",
    "marketplace.rest.limits.BodyLimitMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "marketplace.config.urls"
ASGI_APPLICATION = "marketplace.config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "marketplace.web.context.portal",
            ],
        },
    },
]

AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "/sign-in/"
LOGIN_REDIRECT_URL = "/"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# --- Database, broker, cache -------------------------------------------------------------------------------


def _database() -> dict[str, Any]:
    url = env_url("DATABASE_URL", default=MARKETPLACE_HOME.database_url, schemes=("postgres", "postgresql"))
    database = dict(environ.Env.db_url_config(url))
    database["HOST"] = unquote(database["HOST"])  # a folder of UNIX sockets is written with %2F
    return database | {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

BROKER_URL = env_url(
    "BROKER_URL",
    default=MARKETPLACE_HOME.broker_url,
    schemes=("redis", "rediss", "redis+socket"),
)


def cache_beside(broker_url: str) -> str:
    """The cache's address on the server of a broker, which Django writes otherwise than Celery."""
    return broker_url.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")


def _cache_url() -> str:
    own = MARKETPLACE_HOME.cache_url if MARKETPLACE_HOME.broker_url == BROKER_URL else None
    return str(env("CACHE_URL", default=own or cache_beside(BROKER_URL)))


CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": _cache_url(),
    }
}

CELERY_BROKER_URL = BROKER_URL
CELERY_WORKER_HIJACK_ROOT_LOGGER = False  # LOGGING below says what is logged, in workers too
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A task that a killed worker had taken is delivered again after this time; the sweep does not wait for it.
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 300}
CELERY_TASK_TIME_LIMIT = 120
CELERY_BEAT_SCHEDULER = "marketplace.config.celery:Scheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 30
"""Seconds; how long beat may sleep when nothing is due, and with it between two signs of life."""
SWEEP_SECONDS = env.float("SWEEP_SECONDS", default=5.0)
"""How often every cluster is compared with what is wanted of it; the longest that a lost doorbell costs."""
ROLLOUT_PROGRESS_SECONDS = env.int("ROLLOUT_PROGRESS_SECONDS", default=1800)
"""How long a new revision may make no progress before it is given up, where an update does not say."""
DELETION_SECONDS = env.int("DELETION_SECONDS", default=600)
"""How long a deletion may take before it is told as stuck, to the customer and to staff."""
PRUNE_AFTER_SECONDS = env.int("PRUNE_AFTER_SECONDS", default=86_400)
"""How long a file that nothing needs stays in the storage at least."""
# Periodic work by task name and seconds. A tick lost or doubled costs nothing: each only looks what is due.
CELERY_BEAT_SCHEDULE = {
    # Thrown away when the next one is due, so that they do not queue up behind a worker that was down.
    "sweep": {
        "task": "deployments.reconcile.tasks.sweep",
        "schedule": SWEEP_SECONDS,
        "options": {"expires": SWEEP_SECONDS},
    },
    "prune-storage": {"task": "deployments.tuning.tasks.prune_storage", "schedule": 3600.0},
    "prune-plans": {"task": "deployments.serving.tasks.prune_plans", "schedule": 3600.0},
    "resume-imports": {"task": "marketplace.catalog.tasks.resume_imports", "schedule": 15.0},
    "probe-hub-token": {"task": "marketplace.catalog.tasks.probe_hub_token", "schedule": 300.0},
}

# --- Text, time, files -------------------------------------------------------------------------------------

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
# Where `collectstatic` puts its copy; without one the files are served from the packages that have them.
STATIC_ROOT = str(env("STATIC_ROOT", default="")) or None
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(STORAGE_ROOT)},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
MAX_BODY_BYTES = env.int("MAX_BODY_BYTES", default=1_000_000)
"""Largest body of an API request that is not an upload."""
MAX_UPLOAD_BYTES = env.int("MAX_UPLOAD_BYTES", default=50_000_000)
"""Largest dataset upload."""
GATEWAY_MAX_BODY_BYTES = env.int("GATEWAY_MAX_BODY_BYTES", default=26_214_400)
"""Largest call of a model through the gateway."""
GATEWAY_MAX_CALLS = env.int("GATEWAY_MAX_CALLS", default=1000)
"""Calls in progress in one gateway process; more are answered 503 with Retry-After."""
GATEWAY_STOP_DELAY_SECONDS = env.float("GATEWAY_STOP_DELAY_SECONDS", default=5.0)
"""Told to stop, how long a gateway goes on answering while it says that it is not ready."""
UPLOAD_PATHS = ("/api/v1/datasets/",)
"""Where bodies may be as large as an upload."""

# --- REST --------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "marketplace.accounts.authentication.ApiKeyAuthentication",
        "marketplace.accounts.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["marketplace.accounts.permissions.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["marketplace.rest.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["marketplace.rest.parsers.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "marketplace.rest.pagination.CursorPagination",
    "DEFAULT_FILTER_BACKENDS": ["marketplace.rest.filters.StrictFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "marketplace.rest.problems.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "GenAI Marketplace",
    "DESCRIPTION": "Catalog, plans, deployments, fine-tuning, workspaces and usage. "
    "Errors are RFC 9457 problem details.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    # Names that would else be derived from whichever field is met first.
    "ENUM_NAME_OVERRIDES": {
        "AcceleratorFamilyEnum": "marketplace.hardware.models.AcceleratorFamily",
        "ApiKeyStateEnum": ["active", "expired", "revoked"],
        "ImportStateEnum": "marketplace.catalog.models.ImportState",
        "DeploymentStateEnum": "deployments.serving.models.DeploymentState",
        "JobStateEnum": "deployments.tuning.models.JobState",
        "WorkspaceStateEnum": "deployments.workspaces.models.WorkspaceState",
    },
    "SERVE_AUTHENTICATION": [],  # the document tells nothing about any customer
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "marketplace.rest.schema.describe_problems",
    ],
}

# --- Local cluster -----------------------------------------------------------------------------------------

# Kubernetes quantities ("4", "16Gi"); empty = each core four times, and the memory of the machine.
LOCAL_CLUSTER_CPU = str(env("LOCAL_CLUSTER_CPU", default=""))
LOCAL_CLUSTER_MEMORY = str(env("LOCAL_CLUSTER_MEMORY", default=""))
# JSON file with further images: {"repository": {"command": [...], "environment": {...}}}.
LOCAL_CLUSTER_IMAGES = (
    Path(os.environ["LOCAL_CLUSTER_IMAGES"]) if "LOCAL_CLUSTER_IMAGES" in os.environ else None
)

# --- Model hub ---------------------------------------------------------------------------------------------

HF_ENDPOINT = env_url("HF_ENDPOINT", default="https://huggingface.co", schemes=("http", "https"))
HF_TOKEN = str(env("HF_TOKEN", default=""))
MODEL_FOLDERS = [
    Path(folder).resolve()
    for folder in env.list("MODEL_FOLDERS", default=[str(MARKETPLACE_HOME.root / "incoming")])
]
"""Folders that staff may import models from; anything below one of them."""

# --- Logs --------------------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "marketplace.rest.request_ids.RequestIdFilter"}},
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "plain", "filters": ["request_id"]},
    },
    "root": {"handlers": ["stderr"], "level": str(env("LOG_LEVEL", default="INFO"))},
    # A settled system is silent: a line for each sweep of the day would hide those that matter.
    "loggers": {
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
    },
}
