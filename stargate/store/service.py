# SPDX-License-Identifier: Apache-2.0
"""The store process: catalog hub, background worker, orders, the front's line, and the peer port."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stargate import priority
from stargate.clock import SystemClock
from stargate.control.server import ControlServer
from stargate.errors import StargateError
from stargate.extents.index import DamagedIndex, LmdbIndex
from stargate.extents.store import ExtentStore
from stargate.fs.disk import OsDisk
from stargate.hot.regions import read_batch_table
from stargate.internal import Line
from stargate.scrub.offline import move_aside
from stargate.scrub.scrubber import Scrubber
from stargate.space import Level
from stargate.store.accounts import Accounts
from stargate.store.curator import PAUSE_SECONDS, Curator
from stargate.store.deletions import PendingDeletions
from stargate.store.grants import CatalogGrants
from stargate.store.healing import sources
from stargate.store.hub import CatalogHub
from stargate.store.orders import StoreOrders
from stargate.store.outgoing import Outgoing, PeerPort
from stargate.store.reclaim import HOT_LIMIT_BYTES
from stargate.store.rest import Rest
from stargate.store.space import Space
from stargate.store.sweep import Sweeper
from stargate.store.worker import Worker

log = logging.getLogger(__name__)

SPACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """`data` is the site's folder; `peer_port` 0 = no port for other sites."""

    data: Path
    listen: str
    peer_port: int = 2009
    site_id: str = ""
    hot_limit_bytes: int = HOT_LIMIT_BYTES
    curator_seconds: float = PAUSE_SECONDS


class StoreProcess:
    """Builds and runs the parts; one per data folder (the catalog's lock sees to that)."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._run_dir = settings.data / "run"
        self._run_dir.mkdir(parents=True, exist_ok=True)
        folder = settings.data / "stargate"
        disk = OsDisk(folder)
        for name in ("catalog", "hot", "index"):
            disk.mkdir(name)
        self._done = threading.Event()
        clock = SystemClock()
        self._space = Space(disk, clock)
        self._hub = CatalogHub(disk, self._space.release)
        self._hub.on_frozen = self._done.set
        extents = ExtentStore(disk, _open_index(disk, folder), writable=True, roots=self._hub.state.roots())
        self._extents = extents
        extents.make_room = self._space.release
        self._worker = Worker(disk, self._hub, extents, self._done.set, settings.hot_limit_bytes)
        grants = CatalogGrants(self._hub, clock, lambda: extents.epoch)
        grants.deleting = PendingDeletions(disk, self._hub, self._worker.drain_to)
        read_table = partial(read_batch_table, disk, "hot")
        sweeper = Sweeper(
            self._hub, extents, grants, read_table, clock, _in_a_thread, self._sweep_rest(), self._worker.reclaim
        )
        accounts = Accounts(self._hub, extents, read_table, clock, sweeper.lock)
        self._worker.space = grants.space = self._worker.reclaim.space = self._space
        self._curator = Curator(
            self._hub,
            sweeper,
            accounts,
            grants,
            self._done,
            settings.curator_seconds,
            clock,
            self._space,
            self._worker.reclaim,
        )
        self._outgoing = Outgoing(self._hub, extents, read_table, settings.data / "identity", settings.site_id, clock)
        self._port = PeerPort(self._outgoing, grants, settings.listen, settings.peer_port, self._done)
        outgoing = self._outgoing
        self._scrubber = Scrubber(
            disk, self._hub, extents, self._worker, read_table, lambda: sources(outgoing, self._hub), clock
        )
        self._worker.on_damage = self._scrubber.healer.ask
        orders = StoreOrders(
            self._hub, extents, self._worker, grants, sweeper, accounts, outgoing, clock, self._scrubber, self._space
        )
        self._control = ControlServer(str(self._run_dir / "store.sock"), orders)
        self._internal = self._listen(str(self._run_dir / "internal.sock"))

    def _sweep_rest(self) -> Rest:
        """A sweep rests while guests fill the log, unless its space is what they wait for."""
        worker = self._worker
        return Rest(lambda: worker.log_fill, worker.reclaim.is_tight, worker.doze)

    @staticmethod
    def _listen(path: str) -> socket.socket:
        if os.path.exists(path):
            os.unlink(path)  # left by a killed process; the catalog's lock proved that nobody else runs
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(old)
        sock.listen(4)
        return sock

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the process's exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._done.set())
        self._worker.start()
        self._curator.start()
        threading.Thread(target=self._watch_space, name="space", daemon=True).start()
        self._control.start()
        self._port.start()
        self._scrubber.start()
        threading.Thread(target=self._accept, name="front-line", daemon=True).start()
        log.info("store runs, catalog op %d", self._hub.state.n)
        while not self._done.wait(0.5):
            pass
        self._control.stop()
        self._port.stop()
        self._outgoing.stop()
        self._scrubber.stop()
        self._worker.stop()
        self._extents.close()
        self._hub.close()
        return 0

    def _watch_space(self) -> None:
        """Keep the reserve; while the storage is full the front is told, again and again, for it forgets."""
        was_full = False
        while not self._done.wait(SPACE_SECONDS):
            try:
                self._space.tend()
                front, full = self._hub.front, self._space.level() is Level.FULL
                if front is not None and (full or was_full):
                    front.send("space", full=full)
                was_full = full
            except (OSError, StargateError) as exc:
                log.info("the storage cannot be looked after: %s", exc)

    # -- the front's line ---------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._done.is_set():
            try:
                sock, _ = self._internal.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_front, args=(Line(sock),), name="front", daemon=True).start()

    def _serve_front(self, line: Line) -> None:
        """Until the line ends. A line that ended frees nothing: the front may live on and come back with `hello`."""
        try:
            for message in line.messages():
                kind = message["t"]
                if kind == "hello":
                    if not self._hub.attach(line, message["n"], message["applied"]):
                        return
                elif kind == "log":
                    self._worker.log_state(message["durable"], message["used"], message["cap"])
                elif kind == "ack":
                    self._hub.acked(message["n"])
                elif kind == "gone":
                    self._worker.delete_early(message["snapshots"])
                elif kind == "damaged":
                    self._scrubber.healer.ask([bytes.fromhex(message["extent"])])
                else:
                    log.warning("unknown message from the front: %s", kind)
        except StargateError as exc:
            log.info("front line ended: %s", exc.message)
        finally:
            self._hub.detach(line)
            line.close()


def _open_index(disk: OsDisk, folder: Path) -> LmdbIndex:
    """A damaged index is moved aside; the empty one is filled from the extent groups."""
    try:
        return LmdbIndex(folder / "index")
    except DamagedIndex as exc:
        log.error("%s (%s): it is made anew", exc.message, exc.detail)
        kept = move_aside(disk, "index")
        log.error("the damaged index is in %s", kept)
        return LmdbIndex(folder / "index")


def _in_a_thread(work: Callable[[], None]) -> None:
    """For what the front's line asks for and must not wait for."""
    threading.Thread(target=work, name="give-back", daemon=True).start()


def serve(settings: StoreSettings) -> int:
    """Body of `python -m stargate store`."""
    priority.settle()
    try:
        return StoreProcess(settings).run()
    except StargateError as exc:
        log.critical("%s", exc.message)
        print(f"stargate store: {exc.message}", file=sys.stderr)
        return 1
