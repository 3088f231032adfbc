# SPDX-License-Identifier: Apache-2.0
"""Refusals that come from the other site.

Refused
+-- Unreachable
|   +-- PeerUnreachable    no answer: the same call may be repeated later
+-- PeerRefused            an answer that says no: repeating does not help, the text says what does
"""

from __future__ import annotations

from prism.core.exceptions import Refused, Unreachable


class PeerUnreachable(Unreachable):
    """The remote site does not answer; retry later."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__("peer_unreachable", message, next_step or "Check the network and that the other site runs.")


class PeerRefused(Refused):
    """The remote site answered no. `code` is its own; do not retry."""

    http_status = 409
