# SPDX-License-Identifier: Apache-2.0
"""The Cerebro process: one event loop for other sites, one thread for the lead, one for the health of the links."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading

from django.utils import timezone

from replication import constants
from replication.cerebro import health, registry
from replication.cerebro.edges import guarded
from replication.cerebro.leader import Leader, Rhythm, tick
from replication.cerebro.server import Server

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0


class Process:
    """Everything that runs; `run` blocks until SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.leads = threading.Event()
        self.threads = [
            threading.Thread(target=self._lead, name="leader"),
            threading.Thread(target=self._ask_peers, name="health"),
        ]

    def run(self) -> None:
        """Raises OSError when port or address cannot be used."""
        try:
            asyncio.run(self._serve())
        finally:
            self.stopping.set()
            for thread in self.threads:
                if thread.is_alive():
                    thread.join()

    async def _serve(self) -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = Server()
        for thread in self.threads:
            thread.start()
        await server.serve(stop)

    def _lead(self) -> None:
        """The start callbacks, then a tick a second while leading."""
        for name, callback in registry.start_callbacks.items():
            with guarded(f"start of {name}"):
                callback()
        leader, rhythm = Leader(), Rhythm()
        while not self.stopping.is_set():
            with guarded("leading"):
                if leader.step(timezone.now()):
                    self.leads.set()
                    tick(timezone.now(), rhythm)
                else:
                    self.leads.clear()
            self.stopping.wait(TICK_SECONDS)
        leader.resign()

    def _ask_peers(self) -> None:
        while not self.stopping.is_set():
            if self.leads.is_set():
                with guarded("asking the remote sites"):
                    health.check_peers(timezone.now())
                self.stopping.wait(constants.PING_EVERY.total_seconds())
            else:
                self.stopping.wait(TICK_SECONDS)
