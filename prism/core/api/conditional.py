# SPDX-License-Identifier: Apache-2.0
"""ETag on what is read, If-None-Match to read it only when it changed, If-Match to change only what was read.

A tag has two parts. The first is of what orders change, the second of the whole answer: If-None-Match compares both,
If-Match the first alone, so that an order is not refused because a remote site was heard of in the meantime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import DatabaseError, connection
from django.utils.cache import patch_cache_control
from django.utils.http import parse_etags
from rest_framework import status
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from prism.core.exceptions import Conflict, Stale

HASH_BYTES = 10


class Conditional(APIView):
    """Orders with If-Match on one object are carried out one at a time; one without it asks nobody."""

    observed: frozenset[str] = frozenset()
    """Fields, at any depth, that the site only observes: no order sets them."""

    _held: int | None = None

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().dispatch(request, *args, **kwargs)
        finally:
            self._let_go()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        wanted = request.headers.get("If-Match")
        if wanted is None or request.method in SAFE_METHODS:
            return
        read = getattr(self, "retrieve", None)
        if read is None or not getattr(self, "detail", False):
            raise Stale("What this order is about has no ETag.", "Leave the If-Match header out.")
        self._hold(str(kwargs[getattr(self, "lookup_field", "pk")]))
        known, current = parse_etags(wanted), self._state_now(read, request, *args, **kwargs)
        if "*" not in known and current not in {tag.strip('"').partition("-")[0] for tag in known}:
            raise Stale("It was changed since you read it.", "Read it again, look at what changed, and order anew.")

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        answer = super().finalize_response(request, response, *args, **kwargs)
        if request.method not in {"GET", "HEAD"} or not isinstance(answer, Response) or answer.status_code != 200:
            return answer
        whole = _hash(answer.render().content)
        tag = f'"{self._state(answer.data)}-{whole}"' if self._is_of_one() else f'"{whole}"'
        if _is_known(tag, request.headers.get("If-None-Match")):
            answer.status_code, answer.content = status.HTTP_304_NOT_MODIFIED, b""
            del answer.headers["Content-Type"]
        answer["ETag"] = tag
        patch_cache_control(answer, private=True, no_cache=True)
        return answer

    def _is_of_one(self) -> bool:
        return bool(getattr(self, "detail", False)) and getattr(self, "action", None) == "retrieve"

    def _state(self, data: Any) -> str:
        return _hash(JSONRenderer().render(_without(data, self.observed)))

    def _state_now(self, read: Callable[..., Response], request: Request, *args: Any, **kwargs: Any) -> str:
        """First part of the tag that a GET of the object has now."""
        ordered: Any = getattr(self, "action", None)
        self.action = "retrieve"  # shapes and rows may depend on it
        try:
            return self._state(read(request, *args, **kwargs).data)
        finally:
            self.action = ordered

    def _hold(self, lookup: str) -> None:
        """Until the answer: between the look at the object and its change nobody else with If-Match gets in."""
        text = f"{type(self).__name__} {lookup.lower().replace('-', '')}"
        key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
            if not cursor.fetchone()[0]:
                raise Conflict("order_under_way", "Another order is changing it.", "Read it again in a moment.")
        self._held = key

    def _let_go(self) -> None:
        key, self._held = self._held, None
        if key is None:
            return
        with suppress(DatabaseError), connection.cursor() as cursor:  # a broken connection holds nothing any more
            cursor.execute("SELECT pg_advisory_unlock(%s)", [key])


def _without(data: Any, names: frozenset[str]) -> Any:
    if isinstance(data, dict):
        return {key: _without(value, names) for key, value in data.items() if key not in names}
    return [_without(value, names) for value in data] if isinstance(data, list) else data


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=HASH_BYTES).hexdigest()


def _is_known(tag: str, header: str | None) -> bool:
    known = parse_etags(header or "")
    return "*" in known or tag in {found.removeprefix("W/") for found in known}


def in_schema(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Post-processing of the OpenAPI document: the headers and answers where they are."""
    read = {path for path, operations in result["paths"].items() if "get" in operations}
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            if method == "get":
                _describe_read(operation)
            elif any(path.startswith(above) and above.endswith("}/") for above in read):
                operation.setdefault("parameters", []).append(_IF_MATCH)
                operation["responses"]["412"] = {"description": "It was changed since it was read; nothing was done."}
    return result


def _describe_read(operation: dict[str, Any]) -> None:
    answer = operation["responses"].get("200", {})
    if list(answer.get("content", {})) != ["application/json"]:
        return  # a download, or this document
    operation.setdefault("parameters", []).append(_IF_NONE_MATCH)
    answer["headers"] = {"ETag": {"schema": {"type": "string"}, "description": "Changes with the answer."}}
    operation["responses"]["304"] = {"description": "It is as the ETag of If-None-Match says."}


_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of an earlier answer: 304 without a body when nothing changed since.",
    "schema": {"type": "string"},
    "example": '"5f0c2d8e1a7b4c3d9e60-0b1c2d3e4f5a6b7c8d9e"',
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of the object as it was read: 412 when it was changed since. Without it nobody is asked.",
    "schema": {"type": "string"},
    "example": '"5f0c2d8e1a7b4c3d9e60-0b1c2d3e4f5a6b7c8d9e"',
}
