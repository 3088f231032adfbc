# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request

from prism.core.services import signins, tokens


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer prism_...`; anything else is left to the next class (the session of the console)."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != b"bearer":
            return None
        token = tokens.verify(parts[1].decode("ascii", "replace")) if len(parts) == 2 else None
        if token is None:
            until = signins.token_failed(request._request)
            if until is not None:
                raise Throttled(
                    wait=(until - timezone.now()).total_seconds(),
                    detail="Too many wrong tokens came from this address.",
                )
            raise AuthenticationFailed("The token is unknown, expired or revoked.")
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document shows it."""

    target_class = "prism.core.api.auth.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}
