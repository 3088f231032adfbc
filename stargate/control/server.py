# SPDX-License-Identifier: Apache-2.0
"""A unix-socket server for orders: one thread per connection, requests of a connection in order."""

from __future__ import annotations

import logging
import os
import socketserver
import threading
from collections.abc import Callable
from typing import Any

from stargate.control.protocol import LINE_BYTES_MAX, decode, encode, error_to_wire
from stargate.errors import InvalidArgument, StargateError

log = logging.getLogger(__name__)

Handler = Callable[[str, dict[str, Any]], Any]


class _Connection(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        while True:
            line = self.rfile.readline(LINE_BYTES_MAX + 1)
            if not line.endswith(b"\n"):
                return  # end of stream, or a line over the bound
            self.wfile.write(encode(self._answer(line)))

    def _answer(self, line: bytes) -> dict[str, Any]:
        request_id = None
        try:
            request = decode(line)
            request_id = request.get("id")
            args = request.get("args", {})
            if not isinstance(request.get("op"), str) or not isinstance(args, dict):
                raise InvalidArgument("a request has an op and args")
            return {"id": request_id, "result": self.server.order(request["op"], args)}
        except StargateError as exc:
            return {"id": request_id, "error": error_to_wire(exc)}
        except Exception as exc:  # process edge: the order failed, the engine goes on
            log.exception("order failed")
            return {"id": request_id, "error": error_to_wire(exc)}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str, order: Handler) -> None:
        self.order = order
        super().__init__(path, _Connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("control connection ended", exc_info=True)


class ControlServer:
    """Serves `handler(op, args) -> JSON-able` at a socket only its owner may open."""

    def __init__(self, path: str, handler: Handler) -> None:
        if os.path.exists(path):
            os.unlink(path)  # left by a killed process; the data lock proved that nobody else runs
        old = os.umask(0o177)
        try:
            self._server = _Server(path, handler)
        finally:
            os.umask(old)
        self._thread = threading.Thread(target=self._server.serve_forever, name="control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Orders:
    """Dispatch by method name: `do_<op>(**args)`. Unknown ops and wrong arguments are the caller's mistake."""

    def __call__(self, op: str, args: dict[str, Any]) -> Any:
        method = getattr(self, f"do_{op}", None)
        if method is None:
            raise InvalidArgument(f"no such order: {op}")
        try:
            return method(**args)
        except TypeError as exc:
            if exc.__traceback__ is not None and exc.__traceback__.tb_next is None:
                raise InvalidArgument(f"wrong arguments for {op}: {exc}") from exc
            raise
