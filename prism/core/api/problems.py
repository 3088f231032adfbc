# SPDX-License-Identifier: Apache-2.0
"""The refusals in the OpenAPI document: which statuses an operation may answer with, and how each looks."""

from __future__ import annotations

from typing import Any

_SHAPE = {
    "type": "object",
    "description": "A refusal. `code` is stable; `message` and `next_step` are sentences for the operator.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "next_step", "fields", "request_id"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "next_step": {"type": "string", "description": "Empty: nothing to advise."},
                "fields": {"type": "object", "additionalProperties": True, "description": "Field -> what is wrong."},
                "request_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                "state": {"type": "string", "description": "Of a step that the state table does not have."},
                "event": {"type": "string", "description": "Of a step that the state table does not have."},
            },
        }
    },
}
_KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "400": ("The body is not JSON.", {"code": "parse_error", "message": "JSON parse error - Expecting value"}),
    "401": (
        "Nobody is signed in.",
        {
            "code": "not_authenticated",
            "message": "Authentication credentials were not provided.",
            "next_step": "Send a session cookie or an Authorization: Bearer token.",
        },
    ),
    "403": (
        "The user may not.",
        {
            "code": "permission_denied",
            "message": "Your account may look, not change.",
            "next_step": "Ask an administrator for the permission.",
        },
    ),
    "404": (
        "There is no such object, or no such page of a list.",
        {
            "code": "not_found",
            "message": "There is no such object.",
            "next_step": "Check the address and the id.",
        },
    ),
    "406": (
        "Only JSON is spoken here.",
        {
            "code": "not_acceptable",
            "message": "Could not satisfy the request Accept header.",
        },
    ),
    "409": (
        "The state of the object forbids it, or somebody was faster.",
        {
            "code": "illegal_transition",
            "message": "gold cannot be activated: it is active here.",
            "next_step": "Nothing is to be done.",
            "state": "ACTIVE",
            "event": "ACTIVATE",
        },
    ),
    "412": (
        "It was changed since it was read; nothing was done.",
        {
            "code": "stale",
            "message": "It was changed since you read it.",
            "next_step": "Read it again, look at what changed, and order anew.",
        },
    ),
    "415": (
        "The body is of another kind.",
        {
            "code": "unsupported_media_type",
            "message": 'Unsupported media type "text/plain" in request.',
            "next_step": "Send application/json.",
        },
    ),
    "422": (
        "A value is wrong; the fields are named.",
        {
            "code": "invalid_input",
            "message": "The request is not valid.",
            "next_step": "Correct the named fields.",
            "fields": {"name": ["This field is required."]},
        },
    ),
    "429": (
        "Too many wrong tokens came from this address; Retry-After says when.",
        {
            "code": "throttled",
            "message": "Too many wrong tokens came from this address. Expected available in 840 seconds.",
        },
    ),
    "503": (
        "A part of this site, or another site, does not answer. Retry later.",
        {
            "code": "unavailable",
            "message": "The block engine does not answer.",
            "next_step": "See the alerts of this site.",
        },
    ),
    "507": (
        "The storage is full.",
        {
            "code": "no_space",
            "message": "The storage of this site is full.",
            "next_step": "See the alerts of this site.",
        },
    ),
}
_EVERYWHERE = ("401", "403", "404", "406", "422", "429", "503")
_ORDERS = ("409", "507")
_BODIES = ("400", "415")


def in_schema(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Post-processing of the OpenAPI document: what every operation may refuse with, by one shape."""
    components = result.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = _SHAPE
    components["responses"] = {f"Problem{status}": _answer(*known) for status, known in _KNOWN.items()}
    for operations in result["paths"].values():
        for method, operation in operations.items():
            found = [*_EVERYWHERE, *(_ORDERS if method != "get" else ())]
            found += _BODIES if "requestBody" in operation else ()
            found += [status for status in ("412",) if status in operation["responses"]]
            for status in found:
                operation["responses"][status] = {"$ref": f"#/components/responses/Problem{status}"}
    return result


def _answer(description: str, error: dict[str, Any]) -> dict[str, Any]:
    whole = {"next_step": "", "fields": {}, "request_id": "0a4c5d1e2f3b48679a8b7c6d5e4f3a2b", **error}
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": {"error": whole}}
    return {"description": description, "content": {"application/json": content}}
