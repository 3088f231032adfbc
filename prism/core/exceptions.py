# SPDX-License-Identifier: Apache-2.0
"""Why an order was not carried out, in words for the operator.

Refused(code, message, next_step)   nothing was changed; every door translates it
+-- InvalidInput(field)    422      the order itself is wrong: correct the named field
+-- NotFound               404      no such object
+-- Conflict               409      right order, wrong moment: the object's state forbids it, or somebody was faster
|   +-- IllegalTransition           the state table has no such step
+-- Stale                  412      the caller said what it had read (If-Match), and that has changed since
+-- PermissionRefused      403      the actor may not
+-- Unreachable            503      another site or a part of this one does not answer; retry later
"""

from __future__ import annotations


class Refused(Exception):
    """Base. `code` is stable (API, CLI); `message` and `next_step` are sentences for the operator."""

    http_status = 422

    def __init__(self, code: str, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_step = next_step


class InvalidInput(Refused):
    """`field` names the input that is wrong ("" when it is the combination)."""

    def __init__(self, field: str, message: str, next_step: str = "", *, code: str = "invalid_input") -> None:
        super().__init__(code, message, next_step)
        self.field = field


class NotFound(Refused):
    http_status = 404

    def __init__(self, message: str, next_step: str = "", *, code: str = "not_found") -> None:
        super().__init__(code, message, next_step)


class Conflict(Refused):
    http_status = 409


class IllegalTransition(Conflict):
    """`state` and `event` are those of the state table."""

    def __init__(self, state: str, event: str, message: str, next_step: str = "") -> None:
        super().__init__("illegal_transition", message, next_step)
        self.state = state
        self.event = event


class Stale(Refused):
    http_status = 412

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__("stale", message, next_step)


class PermissionRefused(Refused):
    http_status = 403


class Unreachable(Refused):
    http_status = 503
