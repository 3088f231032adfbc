# SPDX-License-Identifier: Apache-2.0
"""Who may see and who may act: the one place that says it for the console.

Everybody signed in may read. Superusers and members of the group `operator` may act. Superusers manage users.
Everybody else is sent to the sign-in page.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from prism.core.services.roles import OPERATOR_GROUP

READ_ONLY_REASON = (
    f"You are signed in with read-only rights. Ask an administrator to give you the role “{OPERATOR_GROUP}”."
)

ADMIN_REASON = "Only administrators manage users."

__all__ = ["ADMIN_REASON", "OPERATOR_GROUP", "READ_ONLY_REASON", "administrator", "may_act", "operator", "reader"]

View = Callable[..., HttpResponseBase]


def may_act(request: HttpRequest) -> bool:
    """Whether this user may give orders; asked once per request."""
    cached = getattr(request, "_may_act", None)
    if cached is None:
        user = request.user
        cached = bool(
            user.is_active and (user.is_superuser or (user.pk and user.groups.filter(name=OPERATOR_GROUP).exists()))
        )
        request._may_act = cached  # type: ignore[attr-defined]
    return bool(cached)


def reader(view: View) -> View:
    """A page that every signed-in user may read."""
    return _signed_in(view)


def operator(view: View) -> View:
    """A page or order for those who may act; others get 403 with the reason, whatever the method."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_act(request):
            raise PermissionDenied(READ_ONLY_REASON)
        return view(request, *args, **kwargs)

    return _signed_in(guarded)


def administrator(view: View) -> View:
    """A page or order for administrators alone; others get 403."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not (request.user.is_active and request.user.is_superuser):
            raise PermissionDenied(ADMIN_REASON)
        return view(request, *args, **kwargs)

    return _signed_in(guarded)


def _signed_in(view: View) -> View:
    """Strangers go to the sign-in page. A page whose session ended reloads itself instead of showing it in a part."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated and request.headers.get("HX-Request") == "true":
            return HttpResponse(status=204, headers={"HX-Refresh": "true"})
        return login_required(view)(request, *args, **kwargs)

    return checked
