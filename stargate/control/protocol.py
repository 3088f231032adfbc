# SPDX-License-Identifier: Apache-2.0
"""One request, one answer, one line of JSON each.

-> {"id": 1, "op": "snapshot_create", "args": {...}}
<- {"id": 1, "result": {...}}   or   {"id": 1, "error": {"code", "message", "detail"}}
"""

from __future__ import annotations

import json
from typing import Any

from stargate.errors import BY_CODE, InvalidArgument, StargateError

LINE_BYTES_MAX = 16 * 1024 * 1024
"""Bound of one line: a manifest of 10,000 entities fits well."""


def encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise InvalidArgument("not a line of JSON") from exc
    if not isinstance(message, dict):
        raise InvalidArgument("not a JSON object")
    return message


def error_to_wire(exc: BaseException) -> dict[str, str]:
    if isinstance(exc, StargateError):
        return {"code": exc.code, "message": exc.message, "detail": exc.detail}
    return {
        "code": "internal",
        "message": "the engine failed in a way it does not know; see its log",
        "detail": repr(exc),
    }


def error_from_wire(error: dict[str, str]) -> StargateError:
    cls = BY_CODE.get(error.get("code", ""), StargateError)
    return cls(error.get("message", ""), error.get("detail", ""))
