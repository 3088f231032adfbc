# SPDX-License-Identifier: Apache-2.0
"""Which addresses a site may be looked for at: an operator's word must not turn this site against its own machine.

A name is resolved once and the connection goes to the very address that was judged, so a name server that answers
differently the second time gains nothing.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl

from replication.exceptions import PeerUnreachable

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def refusal(host: str, *, own: str) -> str:
    """Why no other site can be at this literal address; empty for one that is fine, and for names. `own`: where this
    site listens. Private networks are fine: that is where sites are.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    return _judged(address, own)


def _judged(address: Address, own: str) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or _translated(address) or address
    if address.is_loopback:
        return "" if _is_loopback(own) else "that is this machine"
    if address.is_link_local:
        return "link-local addresses hold no site, but services of the machine's host"
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return "nothing can listen there"
    return ""


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The address behind a translator's (RFC 6052)."""
    return ipaddress.IPv4Address(address.packed[12:]) if address in _NAT64 else None


def _is_loopback(listen: str) -> bool:
    """Two sites for looking and testing on one machine: they find each other nowhere else."""
    try:
        return ipaddress.ip_address(listen).is_loopback
    except ValueError:
        return False


def resolve(host: str, port: int, *, own: str) -> list[str]:
    """The addresses of `host` that may be tried. Raises `PeerUnreachable` when the name is unknown or leads nowhere
    else.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise PeerUnreachable(
            f"The name {host} is not known here: {error}.", "Check it, or enter an address."
        ) from error
    literals = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    reasons = {literal: refusal(literal, own=own) for literal in literals}
    allowed = [literal for literal in literals if not reasons[literal]]
    if not allowed:
        shown = "; ".join(f"{literal}: {reason}" for literal, reason in reasons.items())
        raise PeerUnreachable(f"{host} is no address of another site ({shown}).", "Enter the address of that site.")
    return allowed


class Connection(http.client.HTTPSConnection):
    """An HTTPS connection that goes only where a site may be."""

    def __init__(self, host: str, port: int, *, timeout: float, context: ssl.SSLContext, own: str) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._own, self._tls, self._seconds = own, context, timeout

    def connect(self) -> None:
        """Try the permitted addresses in turn. Raises `PeerUnreachable`, and OSError of the last one."""
        last: OSError | None = None
        for literal in resolve(self.host, self.port, own=self._own):
            try:
                sock = socket.create_connection((literal, self.port), self._seconds)
            except OSError as error:
                last = error
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self.sock = self._tls.wrap_socket(sock, server_hostname=self.host)
            except BaseException:
                sock.close()
                raise
            return
        raise last or OSError(f"{self.host} has no address")
