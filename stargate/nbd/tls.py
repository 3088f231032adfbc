# SPDX-License-Identifier: Apache-2.0
"""TLS for an accepted NBD socket that never blocks.

`TlsSocket` has the methods of a socket that `Connection` uses, with the same meaning: BlockingIOError when nothing can
be done now, other OSErrors when the connection is over. So nothing else in the server knows whether a client is
encrypted, and a plain connection does not pass through here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stargate.errors import PeerRefused
from stargate.nbd.exports import Buffer
from stargate.units import KiB

PULL_BYTES = 128 * KiB
PULLS = 8
"""Reads of the socket in one call: a peer that sends records without content does not hold the loop."""
PIECE_BYTES = 256 * KiB
"""Encrypted at once, so at most this (and its framing) waits beside the connection's own queue."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """What the server needs to speak TLS: a context that demands client certificates, and who may come in.

    `admit` gets a certificate (DER) whose key was proven and returns the client's name, or raises PeerRefused.
    """

    context: ssl.SSLContext
    admit: Callable[[bytes], str]


def client_context(folder: str | os.PathLike[str]) -> ssl.SSLContext:
    """For `NbdClient.tcp`: `folder` holds ca-cert.pem, client-cert.pem and client-key.pem, as other clients want it.
    Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=os.path.join(folder, "ca-cert.pem"))
    context.load_cert_chain(os.path.join(folder, "client-cert.pem"), os.path.join(folder, "client-key.pem"))
    return context


class TlsSocket:
    """The server's end. The handshake happens inside the first calls of `recv` and `recv_into`."""

    def __init__(self, sock: socket.socket, policy: TlsPolicy, peer: str) -> None:
        self._sock = sock
        self._policy = policy
        self._peer = peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = policy.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._cipher = memoryview(b"")
        """Encrypted, and not yet taken by the socket."""
        self._owed = 0
        """Plain bytes in there, of which the caller has not heard yet that they are sent."""
        self._ended = False
        self._der = b""
        self.client = ""
        """Name of the client, once it is admitted."""
        self.filled = False
        """The last receive ended because its room was full: more may be at hand without the socket being readable."""

    def fileno(self) -> int:
        return self._sock.fileno()

    def still_good(self) -> bool:
        """Whether the client's certificate would be admitted now."""
        try:
            return bool(self._policy.admit(self._der))
        except PeerRefused:
            return False

    # -- receiving ----------------------------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        data = bytearray(size)
        return bytes(data[: self.recv_into(memoryview(data))])

    def recv_into(self, target: memoryview) -> int:
        """As a socket's: 0 at the end of the stream."""
        self.filled = False
        pulls = PULLS
        if not self.client and not self._shake(pulls):
            return 0
        done = 0
        while done < len(target):
            try:
                count = int(self._tls.read(len(target) - done, target[done:]))  # with a buffer it gives a number
            except ssl.SSLWantReadError:
                pulls -= 1
                if not pulls or not self._pull():
                    break
            except ssl.SSLZeroReturnError:
                self._ended = True
                break
            else:
                done += count
                self._ended = self._ended or not count
                if not count:
                    break
        self.filled = done == len(target) or not pulls
        if self._outgoing.pending > PULL_BYTES:
            raise ConnectionAbortedError("the peer does not read what TLS itself has to say")
        if not done and not self._ended:
            raise BlockingIOError
        return done

    def _pull(self) -> bool:
        """Takes in what the socket has. False when that is nothing for now, or for ever (`_ended`)."""
        try:
            data = self._sock.recv(PULL_BYTES)
        except BlockingIOError:
            return False
        self._ended = not data
        self._incoming.write(data)
        return bool(data)

    def _shake(self, pulls: int) -> bool:
        """True when the handshake is done and the client admitted, False at the end of the stream."""
        for _ in range(pulls):
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push_all()
                if not self._pull():
                    break
            except ssl.SSLError as error:
                log.info("NBD client %s: no TLS session: %s", self._peer, error.reason or error)
                with contextlib.suppress(OSError):
                    self._push_all()  # the alert
                raise
            else:
                self._push_all()
                self._welcome()
                return True
        if self._ended:
            return False
        raise BlockingIOError

    def _welcome(self) -> None:
        self._der = self._tls.getpeercert(True) or b""
        try:
            self.client = self._policy.admit(self._der)
        except PeerRefused as error:
            log.info("NBD client %s refused: %s", self._peer, error.message)
            raise ConnectionRefusedError(error.message) from error

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, data: Buffer) -> int:
        """As a socket's. After a BlockingIOError the next call must begin with the same bytes."""
        if not self._owed:
            self._owed = self._tls.write(memoryview(data)[:PIECE_BYTES]) if len(data) else 0
        self._push_all()
        sent, self._owed = self._owed, 0
        return sent

    def sendmsg(self, parts: Sequence[Buffer]) -> int:
        """As `send`, of several buffers."""
        if self._owed:
            return self.send(b"")
        taken: list[Buffer] = []
        size = 0
        for part in parts:
            if taken and size + len(part) > PIECE_BYTES:
                break
            taken.append(part)
            size += len(part)
        return self.send(taken[0] if len(taken) == 1 else b"".join(taken))

    def _push_all(self) -> None:
        """Raises BlockingIOError until the socket has taken everything that is encrypted."""
        while self._cipher or self._outgoing.pending:
            if not self._cipher:
                self._cipher = memoryview(self._outgoing.read())
            self._cipher = self._cipher[self._sock.send(self._cipher) :]

    def close(self) -> None:
        """Says goodbye if the socket takes it, and closes."""
        with contextlib.suppress(OSError):
            if self.client and not self._owed:
                with contextlib.suppress(ssl.SSLWantReadError):
                    self._tls.unwrap()
                self._push_all()
        self._sock.close()
