# SPDX-License-Identifier: Apache-2.0
"""The Cerebro process: an event loop for other sites; a thread each for the lead, the links, the engine's starts."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading

from django.utils import timezone

from prism.core.engine import engine
from replication import constants
from replication.cerebro import data_health, health, registry, storage_health
from replication.cerebro.edges import guarded
from replication.cerebro.engine_health import EngineHealth
from replication.cerebro.leader import Leader, Rhythm, tick
from replication.cerebro.server import Server
from replication.services import withdrawals
from stargate.errors import StargateError

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0


class EngineWatch:
    """Calls the start callbacks once for each start of the engine's front, also when only the front was restarted."""

    def __init__(self) -> None:
        self.incarnation: int | None = None

    def look(self) -> bool:
        """True when a start was met. An engine that does not answer is met later."""
        try:
            incarnation = int(engine().status()["incarnation"])
        except StargateError:
            return False
        if incarnation == self.incarnation:
            return False
        for name, callback in registry.start_callbacks.items():
            with guarded(f"start of {name}"):
                callback()
        self.incarnation = incarnation
        return True


class Process:
    """Everything that runs; `run` blocks until SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.leads = threading.Event()
        self.threads = [
            threading.Thread(target=self._lead, name="leader"),
            threading.Thread(target=self._ask_peers, name="health"),
            threading.Thread(target=self._watch_engine, name="engine-watch"),
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
        """A tick a second while leading."""
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

    def _watch_engine(self) -> None:
        """The start callbacks, each time the engine has started: its gates wait for their answer (a stale site)."""
        watch, health_of_engine, rhythm = EngineWatch(), EngineHealth(), Rhythm()
        while not self.stopping.is_set():
            with guarded("watching the engine"):
                watch.look()
                if rhythm.is_due("engine", constants.PING_EVERY, timezone.now()):
                    health_of_engine.look(timezone.now())
                    storage_health.look()
                    data_health.look()
                    data_health.look_at_log()
            self.stopping.wait(TICK_SECONDS)

    def _ask_peers(self) -> None:
        while not self.stopping.is_set():
            if self.leads.is_set():
                with guarded("asking the remote sites"):
                    answered = health.check_peers(timezone.now())
                    withdrawals.send(name for name, here in answered.items() if here)
                self.stopping.wait(constants.PING_EVERY.total_seconds())
            else:
                self.stopping.wait(TICK_SECONDS)
