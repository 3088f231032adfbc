# SPDX-License-Identifier: Apache-2.0
"""The HTTPS server on port 2020: calls of paired sites, and a diagnostics page for the people of this site."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from aiohttp.typedefs import Handler

from replication.cerebro.diagnostics import render
from replication.cerebro.dispatch import dispatch, error_body, paired_site
from replication.cerebro.edges import guarded
from replication.local import identity, local_site
from replication.models import RemoteSite
from replication.rpc.client import BODY_BYTES_MAX
from stargate.peer.identity import PeerSet, server_context

THREADS = 8
TRUST_REFRESH_SECONDS = 0.4
"""Another process of this site may have paired: its pin is read this often. Peers wait longer (`rpc.client`)."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
}


class Trust:
    """The TLS context, and which certificates it accepts for a handshake.

    OpenSSL only learns here and never forgets; what a certificate may do is decided from the table at every call.
    """

    def __init__(self) -> None:
        self.context: ssl.SSLContext = server_context(identity(), PeerSet())
        self.context.verify_mode = ssl.CERT_OPTIONAL  # a site that pairs has no pin yet
        self._loaded: set[str] = set()

    def refresh(self) -> None:
        """Load new pins."""
        paired = RemoteSite.objects.exclude(certificate_pem="").values_list("certificate_pem", flat=True)
        for pem in set(paired) - self._loaded:
            self.context.load_verify_locations(cadata=pem)
            self._loaded.add(pem)


class Server:
    """Runs in one event loop; everything that touches the database goes to `pool`."""

    def __init__(self) -> None:
        self.trust = Trust()
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="rpc")
        self.app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_strict_headers])
        self.app.router.add_post("/rpc/v1/{name}", self.rpc)
        self.app.router.add_get("/", self.diagnostics)

    async def serve(self, stop: asyncio.Event) -> None:
        """Until `stop`. Raises OSError when the port is taken."""
        here, loop = local_site(), asyncio.get_running_loop()
        await loop.run_in_executor(self.pool, self.trust.refresh)
        runner = web.AppRunner(self.app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, here.listen or None, here.control_port, ssl_context=self.trust.context)
        try:
            await site.start()
            while not stop.is_set():
                await loop.run_in_executor(self.pool, self._refresh_trust)
                await _wait(stop, TRUST_REFRESH_SECONDS)
        finally:
            await runner.cleanup()
            self.pool.shutdown(cancel_futures=True)

    def _refresh_trust(self) -> None:
        with guarded("reading the paired sites"):
            self.trust.refresh()

    async def rpc(self, request: web.Request) -> web.Response:
        """A call; the body is bounded by `client_max_size` before it is kept."""
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return web.json_response(error_body("too_large", f"More than {BODY_BYTES_MAX} bytes."), status=413)
        name, address = request.match_info["name"], request.remote or ""
        loop = asyncio.get_running_loop()
        status, body = await loop.run_in_executor(self.pool, dispatch, name, _certificate(request), address, raw)
        if name == "pair" and status == 200:
            await loop.run_in_executor(self.pool, self._refresh_trust)
        return web.json_response(body, status=status)

    async def diagnostics(self, request: web.Request) -> web.Response:
        """For this machine and for paired sites; to others it says nothing."""
        loop = asyncio.get_running_loop()
        known = _is_here(request.remote or "")
        if not known:
            known = await loop.run_in_executor(self.pool, _is_paired, _certificate(request))
        if not known:
            return web.Response(status=403, text="This page is for this site's own machine and its paired sites.\n")
        page = await loop.run_in_executor(self.pool, render)
        return web.Response(text=page, content_type="text/html")


def _certificate(request: web.Request) -> bytes | None:
    """DER of the client certificate; None when there was none."""
    tls = request.transport.get_extra_info("ssl_object") if request.transport else None
    return tls.getpeercert(binary_form=True) if tls else None


def _is_here(remote: str) -> bool:
    try:
        address = ipaddress.ip_address(remote.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or remote == local_site().listen


def _is_paired(certificate: bytes | None) -> bool:
    known = False
    with guarded("asking who calls"):
        known = paired_site(certificate) is not None
    return known


@web.middleware
async def _strict_headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    response.headers.update(HEADERS)
    return response


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
