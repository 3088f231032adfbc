# SPDX-License-Identifier: Apache-2.0
"""Django settings of one site.

`PRISM_DATA` names the site's data folder; what is in its `site.json` is the default for everything else.
`DATABASE_URL` and `REDIS_URL` override the embedded servers. Without `PRISM_DATA` (tests, `makemigrations`)
nothing is read from disk and the secret key lives as long as the process.
"""

import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

import django_stubs_ext
from psycopg.conninfo import conninfo_to_dict

from prism.layout import Layout, SiteConfig, database_url, redis_url

# Django's generic classes (`ModelAdmin[Site]`, `ModelForm[VM]`) take their parameters at run time as well.
django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
PRISM_DATA: Path | None = Path(os.environ["PRISM_DATA"]).resolve() if os.environ.get("PRISM_DATA") else None
LAYOUT: Layout | None = Layout(PRISM_DATA) if PRISM_DATA else None
SITE_CONFIG: SiteConfig | None = LAYOUT.load() if LAYOUT else None
#: Folder with stargate.sock and store.sock, for `stargate.control.client.Engine`. None outside a site.
PRISM_RUN_DIR: Path | None = LAYOUT.run if LAYOUT else None
UPLOADS_DIR: Path | None = LAYOUT.uploads if LAYOUT else None


def _secret_key() -> str:
    if os.environ.get("PRISM_SECRET_KEY"):
        return os.environ["PRISM_SECRET_KEY"]
    if LAYOUT and LAYOUT.secret_key_file.exists():
        return LAYOUT.secret_key_file.read_text(encoding="ascii").strip()
    return secrets.token_urlsafe(50)


def _database() -> dict[str, Any]:
    default = (
        database_url(Path(SITE_CONFIG.socket_dir)) if SITE_CONFIG else "postgresql://prism@/prism?host=/nonexistent"
    )
    parts = conninfo_to_dict(os.environ.get("DATABASE_URL") or default)
    known = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    options = {key: value for key, value in parts.items() if key not in known.values()}
    return {
        "ENGINE": "django.db.backends.postgresql",
        **{key: parts.get(name) or "" for key, name in known.items()},
        "OPTIONS": {"connect_timeout": 5, **options},
        "CONN_HEALTH_CHECKS": True,
    }


SECRET_KEY = _secret_key()
DEBUG = os.environ.get("PRISM_DEBUG") == "1"
# Set by the runtime for the one worker of a site that it keeps itself.
PRISM_ONLY_WORKER = os.environ.get("PRISM_ONLY_WORKER") == "1"
# Reached by loopback names, addresses and whatever LISTEN says; the certificate, not the Host header, names a site.
ALLOWED_HOSTS = os.environ.get("PRISM_ALLOWED_HOSTS", "*").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "django_htmx",
    "axes",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "prism.core",
    "replication",
    "dataprotection",
    "prism.console",
    "prism.runtime",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "prism.runtime.middleware.ContentSecurityPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "prism.console.middleware.AccountGate",
    "prism.console.middleware.NotFoundPages",
]

ROOT_URLCONF = "prism.urls"
ASGI_APPLICATION = "prism.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = os.environ.get("REDIS_URL") or (
    redis_url(Path(SITE_CONFIG.socket_dir)) if SITE_CONFIG else "unix:///nonexistent/redis.sock?db=0"
)
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}

# kombu wants `redis+socket://` and `virtual_host` where redis-py wants `unix://` and `db`.
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
CELERY_TASK_IGNORE_RESULT = True  # results are rows (prism.core Task), never broker messages
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"

# Limits on sign-in (docs/security.md). The first backend refuses who tried too often before a password is hashed.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_HANDLER = "prism.core.services.limits.SignInLimits"
AXES_FAILURE_LIMIT = 5
AXES_ADDRESS_FAILURE_LIMIT = 50
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "prism.core.services.limits.counted_address"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True  # the audit rows say it
AXES_ENABLE_ADMIN = False  # prism.core.admin has a read-only one
AXES_SENSITIVE_PARAMETERS = ["csrfmiddlewaretoken", "username", "current", "new", "again", "code"]
AXES_VERBOSE = False
OTP_TOTP_ISSUER = f"Prism DR {SITE_CONFIG.name}" if SITE_CONFIG else "Prism DR"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
LOGIN_URL = "console:sign-in"
LOGIN_REDIRECT_URL = "console:home"
CSRF_FAILURE_VIEW = "prism.console.views.errors.csrf_failure"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Served straight from static/ and the packages, scanned once at start: there is nothing to collect at an upgrade.
STATIC_ROOT = None
WHITENOISE_USE_FINDERS = True

SESSION_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_SECURE = True
CSRF_COOKIE_SAMESITE = "Lax"
# The certificate is the site's own: a browser that was told HSTS would not let its user past it any more.
SECURE_HSTS_SECONDS = int(os.environ.get("PRISM_HSTS_SECONDS", "0"))
SILENCED_SYSTEM_CHECKS = [
    "axes.W002",  # the sign-in page itself says what axes' middleware would, with the time of the next try
    "security.W004",  # HSTS: see above
    "security.W005",  # the site's name says nothing about its subdomains
    "security.W008",  # no redirect to HTTPS: port 9440 speaks nothing else
    "security.W021",  # no preloading of private addresses
]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_PERMISSION_CLASSES": ["prism.webkit.permissions.ReadOrOperate"],
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "prism.core.api.auth.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "EXCEPTION_HANDLER": "prism.core.api.errors.handler",
    "DEFAULT_FILTER_BACKENDS": ["prism.core.api.base.Filters"],
    "DEFAULT_PAGINATION_CLASS": "prism.core.api.base.Pages",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Prism DR API",
    "DESCRIPTION": "Protect, snapshot, replicate and recover: everything the console can do.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "prism.core.api.once.in_schema",
        "prism.core.api.conditional.in_schema",
        "prism.core.api.problems.in_schema",
        "prism.core.api.examples.in_schema",
    ],
    "SERVE_PERMISSIONS": ["prism.webkit.permissions.ReadOrOperate"],
    "ENUM_NAME_OVERRIDES": {
        "TaskStateEnum": "prism.core.choices.TaskState",
        "NbdClientStateEnum": "prism.core.choices.NbdClientState",
        "SnapshotStateEnum": "dataprotection.choices.SnapshotState",
        "OneTimeStateEnum": "dataprotection.choices.OneTimeState",
        "ConsistencyEnum": "dataprotection.choices.Consistency",
    },
}

# Every process writes to stderr; the runtime puts that into rotated files below logs/ (docs/operations.md).
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("PRISM_LOG_LEVEL", "INFO")},
    "loggers": {
        "django.server": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "axes": {"level": "WARNING"},  # each sign-in has an audit row
    },
}
