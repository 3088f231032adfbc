# SPDX-License-Identifier: Apache-2.0
"""Every error of the engine, by who must act.

StargateError                 code, message (for the operator), detail (for the log)
+-- OperatorError             the order cannot be done as given; nothing changed
|   +-- NotFound  AlreadyExists  InvalidArgument  WriterConnected  ExportDown  ReadOnly
+-- Fenced                    somebody newer holds the right to act; stop
|   +-- StaleTerm  StaleGeneration  StaleToken
+-- NoSpace                   nothing damaged; goes on when space returns
|   +-- LogFull
+-- PeerError                 the other site
|   +-- PeerUnreachable       retry later
|   +-- PeerRefused           do not retry; the text says why
|   +-- PeerProtocol          the peer sent bytes that no honest peer sends; connection closed
+-- DamagedData               stored bytes fail their checksum: EIO to the guest, heal or restore
|   +-- LogDamaged            a durable part of the log is unreadable: nothing is truncated
+-- LogFrozen                 an fsync failed: the log and all its disks are read-only until restart
+-- Unavailable               a part of the engine is not running or still starting; retry
"""

from __future__ import annotations


class StargateError(Exception):
    """Base. `code` is stable and travels over the control socket; `detail` is for the log."""

    code = "internal"

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class OperatorError(StargateError):
    code = "operator"


class NotFound(OperatorError):
    code = "not_found"


class AlreadyExists(OperatorError):
    code = "already_exists"


class InvalidArgument(OperatorError):
    code = "invalid_argument"


class WriterConnected(OperatorError):
    code = "writer_connected"


class ExportDown(OperatorError):
    code = "export_down"


class ReadOnly(OperatorError):
    code = "read_only"


class Fenced(StargateError):
    code = "fenced"


class StaleTerm(Fenced):
    code = "stale_term"


class StaleGeneration(Fenced):
    code = "stale_generation"


class StaleToken(Fenced):
    code = "stale_token"


class NoSpace(StargateError):
    code = "no_space"


class LogFull(NoSpace):
    code = "log_full"


class PeerError(StargateError):
    code = "peer"


class PeerUnreachable(PeerError):
    code = "peer_unreachable"


class PeerRefused(PeerError):
    code = "peer_refused"


class PeerProtocol(PeerError):
    code = "peer_protocol"


class DamagedData(StargateError):
    code = "damaged_data"


class LogDamaged(DamagedData):
    code = "log_damaged"


class LogFrozen(StargateError):
    code = "log_frozen"


class Unavailable(StargateError):
    code = "unavailable"


def _tree(cls: type[StargateError]) -> dict[str, type[StargateError]]:
    found = {cls.code: cls}
    for sub in cls.__subclasses__():
        found.update(_tree(sub))
    return found


BY_CODE: dict[str, type[StargateError]] = _tree(StargateError)
"""Code on the wire -> class, so that a client raises what the server raised."""
