# SPDX-License-Identifier: Apache-2.0
"""The line between front and store: JSON lines over `run/internal.sock`. The store listens, the front connects.

front -> store   hello {log_id, n, applied} the front was told of ops up to n, has applied them up to `applied`, and
wants what follows
                 log {durable, used, cap}   the drain may read below `durable`
                 ack {n}                    ops up to n are applied and their log space is released
                 damaged {extent}           a guest's read met this chunk or node (hex) damaged: heal it
                 gone {snapshots}           while the store is full: these are deleted, nothing in the log needs them
store -> front   welcome {n, ops}           what the front lacks since its n, or restart: true when that is no longer
known
                 op {op}                    every store op, numbered
                 seal {}                    the hot tier is full: seal the open epochs so that they can be folded
                 log_damaged {position, reason}   the chain of the log is lost there: nothing behind it can be drained
                 space {full}               nothing can be drained for lack of space, told every second; or it can again

The store frees nothing (hot regions, deleted extents) that a front may still read: only acks and the `applied` of a
hello free it,
never the end of a connection.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

from stargate.errors import Unavailable

LINE_BYTES_MAX = 64 * 1024 * 1024
SEND_SECONDS = 5
"""An end that reads nothing for so long (it is stopped, or stuck) counts as gone: nobody waits for it any longer."""

Message = dict[str, Any]


class Line:
    """One end. `send` may be called by several threads; `messages` by one."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_SECONDS, 0))
        self._sock = sock
        self._stream = sock.makefile("rb")
        self._lock = threading.Lock()

    def send(self, kind: str, **fields: Any) -> None:
        """Raises Unavailable when the other end is gone."""
        data = json.dumps({"t": kind, **fields}, separators=(",", ":")).encode() + b"\n"
        try:
            with self._lock:
                self._sock.sendall(data)
        except OSError as exc:
            self.close()  # a message cut short must not be followed by another
            raise Unavailable("the other half of the engine is gone") from exc

    def peer_pid(self) -> int | None:
        """Process at the other end as this process sees it; None when it cannot."""
        try:
            found = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
        pid: int = struct.unpack("3i", found)[0]
        return pid or None

    def messages(self) -> Iterator[Message]:
        """Until the other end closes."""
        while True:
            try:
                line = self._stream.readline(LINE_BYTES_MAX)
            except (OSError, ValueError):
                return
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
