# SPDX-License-Identifier: Apache-2.0
"""What holds for every page: a one-time password is changed first, and what a service does not find is a page."""

from __future__ import annotations

import hashlib
import logging

from django.contrib.auth import SESSION_KEY
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin
from redis.exceptions import RedisError

from prism.console.views.errors import not_found
from prism.core.api.errors import body
from prism.core.exceptions import NotFound
from prism.core.services import sessions
from prism.webkit.pages import done

MUST_CHANGE = "must_change_password"
"""Key in the session of somebody who signed in with a one-time password."""
OPEN = ("console:password", "console:sign-out", "console:theme")

log = logging.getLogger(__name__)


class AccountGate(MiddlewareMixin):
    """Until the one-time password is changed, nothing else is open; notes when a session was last used."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """None: go on."""
        if SESSION_KEY not in request.session:
            return None
        self._seen(request.session.session_key or "")
        if not request.session.get(MUST_CHANGE) or request.path in map(reverse, OPEN):
            return None
        if request.path.startswith("/api/"):
            message = "Your password was set by an administrator and must be changed first."
            return JsonResponse(
                body("password_change_required", message, "Change it at /account/password/."), status=403
            )
        return done(request, reverse("console:password"))

    def _seen(self, key: str) -> None:
        """Once a minute at most; without a cache the list of sessions only shows when they began."""
        try:
            hashed = hashlib.sha256(key.encode()).hexdigest()
            if cache.add(f"seen:{hashed}", 1, int(sessions.SEEN_STEP.total_seconds())):
                sessions.seen(key)
        except (RedisError, OSError):
            log.warning("the cache does not answer: the last use of a session is not noted")


class NotFoundPages(MiddlewareMixin):
    """For the console; the API translates its exceptions itself."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """None: not ours, Django goes on."""
        return not_found(request, exception) if isinstance(exception, NotFound) else None
