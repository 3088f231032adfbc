# SPDX-License-Identifier: Apache-2.0
"""The one error shape of the API.

`{"error": {"code", "message", "next_step", "fields": {}, "request_id"}}`, for refusals, wrong bodies and bugs alike.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any

from django.db import DataError
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions, status
from rest_framework.response import Response

from prism.core.exceptions import IllegalTransition, InvalidInput, Refused
from stargate.errors import Fenced, LogDamaged, NoSpace, NotFound, OperatorError, PeerError, StargateError, Unavailable
from stargate.nbd.link import NbdError

log = logging.getLogger(__name__)

_NEXT = {
    401: "Send a session cookie or an Authorization: Bearer token.",
    403: "Ask an administrator for the permission.",
    404: "Check the address and the id.",
    405: "The Allow header names what is possible here.",
    415: "Send application/json.",
}
_ENGINE_STATUS: list[tuple[type[StargateError], int]] = [
    (NotFound, 404),
    (OperatorError, 409),
    (Fenced, 409),
    (LogDamaged, 409),  # damaged mode: this site takes no orders that change anything
    (NoSpace, 507),
    (PeerError, 503),
    (Unavailable, 503),
]


def body(
    code: str, message: str, next_step: str = "", *, fields: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """The shape; `more` adds e.g. state and event of a refused transition."""
    return {
        "error": {
            "code": code,
            "message": message,
            "next_step": next_step,
            "fields": fields or {},
            "request_id": uuid.uuid4().hex,
            **more,
        }
    }


def handler(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's exception handler: every exception of a view becomes an answer."""
    if isinstance(error, Refused):
        return _refused(error)
    if isinstance(error, NbdError):
        return Response(body("disk_unavailable", f"The disk cannot be read or written now: {error}"), status=503)
    if isinstance(error, StargateError):
        found = next((code for kind, code in _ENGINE_STATUS if isinstance(error, kind)), 500)
        return Response(body(error.code, error.message, "See the alerts of this site."), status=found)
    if isinstance(error, DataError):  # the database refused a value that nobody had looked at; it stored nothing
        log.warning("the database refused a value: %s", error)
        words = "A value is too large or too long, or has characters that cannot be stored."
        return Response(body("invalid_input", words, "Correct the values of this request."), status=422)
    if isinstance(error, exceptions.ValidationError):
        return Response(
            body("invalid_input", "The request is not valid.", "Correct the named fields.", fields=_fields(error)),
            status=status.HTTP_422_UNPROCESSABLE_ENTITY,
        )
    if isinstance(error, Http404):
        error = exceptions.NotFound("There is no such object.")
    if isinstance(error, exceptions.APIException):
        return _api_error(error)
    answer = body("internal", "An unexpected error happened.", "Give the request_id to whoever reads the logs.")
    log.error("request %s failed", answer["error"]["request_id"], exc_info=error)
    return Response(answer, status=500)


def _refused(error: Refused) -> Response:
    more: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    if isinstance(error, IllegalTransition):
        more = {"state": error.state, "event": error.event}
    if isinstance(error, InvalidInput) and error.field:
        fields = {error.field: [error.message]}
    return Response(body(error.code, error.message, error.next_step, fields=fields, **more), status=error.http_status)


def _api_error(error: exceptions.APIException) -> Response:
    code = error.get_codes()
    headers = {}
    if header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = str(header)
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    text = code if isinstance(code, str) else "invalid"
    return Response(
        body(text, str(error.detail), _NEXT.get(error.status_code, "")), status=error.status_code, headers=headers
    )


def _fields(error: exceptions.ValidationError) -> dict[str, Any]:
    return error.detail if isinstance(error.detail, dict) else {"": error.detail}


@csrf_exempt  # it changes nothing, and a wrong address is to be told as one whatever the method
def no_such_address(request: HttpRequest, rest: str = "") -> JsonResponse:
    """For addresses below /api/ that do not exist."""
    return JsonResponse(body("not_found", f"There is nothing at {request.path}.", _NEXT[404]), status=404)
