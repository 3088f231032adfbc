# SPDX-License-Identifier: Apache-2.0
"""The front process: recovery, then NBD, orders, and the line to the store."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stargate import priority
from stargate.catalog.state import BatchRef, State
from stargate.control.server import ControlServer
from stargate.errors import StargateError
from stargate.extents.index import LmdbIndex
from stargate.extents.reader import ExtentReader
from stargate.extents.tree import TreeReader
from stargate.front.balance import Balance
from stargate.front.clients import CLIENT_ORDERS, ClientOrders
from stargate.front.engine import FrontEngine
from stargate.front.exports import FrontExports
from stargate.front.layers import Layers
from stargate.front.link import StoreLink
from stargate.front.orders import FrontOrders
from stargate.front.recovery import load_contents, load_state, log_reader, open_log, replay
from stargate.front.unsynced import TIDY_SECONDS, note_boot
from stargate.fs.boot import boot_id
from stargate.fs.disk import OsDisk
from stargate.hot.format import HotTable
from stargate.hot.regions import HotReader, read_batch_table
from stargate.nbd.authority import Authority, DamagedAuthority
from stargate.nbd.listen import is_routable, names_of
from stargate.nbd.server import NbdServer
from stargate.nbd.tls import TlsPolicy
from stargate.oplog.superblock import superblock_exists
from stargate.space import Gauge
from stargate.units import GiB, MiB

log = logging.getLogger(__name__)

RESTART_EXIT_CODE = 75
"""Exit code that tells the supervisor: start me again at once (EX_TEMPFAIL)."""

STORE_POLL_SECONDS = 0.02
STORE_WAIT_SECONDS = 2.0
"""How long a restart waits for a store that may be on its way; without one it serves what there is."""

SWITCH_SECONDS = 0.0005
"""How long another thread may keep the NBD loop waiting for the interpreter; Python's own 5 ms are a guest's stall."""

COLLECT_SECONDS = 600.0
"""Cycles are rare in the front; Python would look for them in the middle of a request."""


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """`data` is the site's folder. The log's cap bounds the time of a restart (L6)."""

    data: Path
    listen: str
    nbd_port: int = 10809
    log_cap_bytes: int = 4 * GiB
    segment_bytes: int = 64 * MiB


class FrontProcess:
    """Builds and runs the parts; one per data folder."""

    def __init__(self, settings: FrontSettings) -> None:
        self._settings = settings
        self._run_dir = settings.data / "run"
        self._run_dir.mkdir(parents=True, exist_ok=True)
        self._disk = OsDisk(settings.data / "stargate")
        self._restarting = False
        self._await_store()
        self._index = LmdbIndex(settings.data / "stargate" / "index", read_only=True)
        self._index_number = self._index_path().stat().st_ino
        self._extents = ExtentReader(self._disk, self._index)
        self._hot = HotReader(self._disk, "hot")
        self.engine = self._recover()
        self.exports = FrontExports(self.engine, waits=False)
        self._authority = _authority(settings.data / "identity" / "nbd")
        self.server = NbdServer(self.exports, tls=self._tls_policy())
        self._link = StoreLink(
            self.engine,
            str(self._run_dir / "internal.sock"),
            call_soon=self.server.call_soon,
            read_table=self._read_table,
            on_restart=self._restart,
            is_stale=self._has_old_index,
            tidy=self._extents.prune,
        )
        self._balance = Balance(self._link.store_pid, lambda: self.engine.log.used_bytes / self.engine.log.cap_bytes)
        orders = FrontOrders(self.engine, self.exports, self.server, self._facts)
        clients = ClientOrders(self._authority, self.server)
        self._control = ControlServer(
            str(self._run_dir / "stargate.sock"),
            lambda op, args: (clients if op.startswith(CLIENT_ORDERS) else orders)(op, args),
        )

    # -- start --------------------------------------------------------------------------------------------------------

    def _await_store(self) -> None:
        """Wait a while for the store, which makes catalog and index; without them there is nothing to start from. A log
        says that they were there: it is made by the first front that found them.
        """
        path = str(self._run_dir / "internal.sock")
        deadline = time.monotonic() + STORE_WAIT_SECONDS
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                if sock.connect_ex(path) == 0:
                    return
            if time.monotonic() > deadline and superblock_exists(self._disk, "oplog"):
                log.warning("no store process: serving from log, hot tier and extents without drain")
                return
            time.sleep(STORE_POLL_SECONDS)

    def _recover(self) -> FrontEngine:
        state = load_state(self._disk)
        oplog = open_log(
            self._disk, state, segment_bytes=self._settings.segment_bytes, cap_bytes=self._settings.log_cap_bytes
        )
        layers = Layers(state, lambda root: TreeReader(self._extents, root))
        load_contents(state, layers, self._read_table)
        engine = FrontEngine(
            oplog,
            state,
            layers,
            log_reader=log_reader(self._disk, oplog),
            hot_reader=self._hot,
            chunks=self._extents,
        )
        engine.gauge = Gauge(self._disk, engine.clock)
        replay(engine, oplog.replayed())
        if not state.log_id and engine.damage is None:
            engine.append_ops([{"op": "log_created", "log_id": oplog.log_id.hex()}])
        note_boot(engine, boot_id(), engine.clock.now())
        return engine

    def _tls_policy(self) -> TlsPolicy | None:
        """None without a TCP listener."""
        if not self._settings.nbd_port or isinstance(self._authority, DamagedAuthority):
            return None
        return TlsPolicy(self._authority.server_context(names_of(self._settings.listen)), self._authority.admit)

    def _read_table(self, ref: BatchRef) -> HotTable:
        return read_batch_table(self._disk, "hot", ref)

    def _facts(self) -> dict[str, Any]:
        return {
            "store_connected": self._link.connected,
            "space": self.engine.gauge.level().name.lower() if self.engine.gauge is not None else "",
            "incarnation": self.engine.log.incarnation,
            "started_at": self._started_at,
            "pid": os.getpid(),
            "nbd_address": self._settings.listen,
            "nbd_port": self._settings.nbd_port,
            "loop": asdict(self.server.turns),
            "store_share": self._balance.share.name.lower(),
            "nbd_problem": self._authority.message if isinstance(self._authority, DamagedAuthority) else "",
            "nbd_tls": is_routable(self._settings.listen),
        }

    def _index_path(self) -> Path:
        return self._settings.data / "stargate" / "index" / "data.mdb"

    def _has_old_index(self) -> bool:
        """A damaged one was moved aside; the open file is not the one that the store fills."""
        return not self._index_path().exists() or self._index_path().stat().st_ino != self._index_number

    def _restart(self) -> None:
        self._restarting = True
        self.server.stop()

    # -- run ----------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the process's exit code."""
        self._started_at = time.time()
        self.engine.sync.start()
        self.server.listen_unix(str(self._run_dir / "nbd.sock"))
        if self._settings.nbd_port and not isinstance(self._authority, DamagedAuthority):
            self.server.listen_tcp(self._settings.listen, self._settings.nbd_port)
        self._link.start()
        self._balance.start()
        self._control.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.server.stop())
        _collect_garbage()
        sys.setswitchinterval(SWITCH_SECONDS)
        log.info("front serves %d vDisks", len(self.engine.state.vdisks))
        thread = threading.Thread(target=self.server.run, name="nbd", daemon=True)
        thread.start()
        collect_at = time.monotonic() + COLLECT_SECONDS
        while thread.is_alive():
            thread.join(TIDY_SECONDS)
            self.server.call_soon(self.exports.tidy)
            if time.monotonic() >= collect_at:
                _collect_garbage()
                collect_at = time.monotonic() + COLLECT_SECONDS
        self._control.stop()
        self._balance.stop()
        self._link.stop()
        self.exports.unsynced.close()
        self.engine.close()
        self.engine.log.close()
        return RESTART_EXIT_CODE if self._restarting else 0


def _authority(folder: Path) -> Authority | DamagedAuthority:
    """A damaged one keeps clients on networks out, and nobody else: guests of this machine need no certificate."""
    try:
        return Authority(folder, socket.gethostname())
    except DamagedAuthority as exc:
        log.critical("%s (%s)", exc.message, exc.detail)
        return exc


def _collect_garbage() -> None:
    """What is left is not looked at again: a collection stops every thread, for a millisecond per 50,000 objects."""
    gc.collect()
    gc.freeze()


def serve(settings: FrontSettings) -> int:
    """Body of `python -m stargate front`."""
    gc.disable()  # a full log becomes a million numbers; looking for cycles among them is a tenth of a restart
    priority.prompt()
    try:
        return FrontProcess(settings).run()
    except StargateError as exc:
        log.critical("%s", exc.message)
        print(f"stargate front: {exc.message}", file=sys.stderr)
        return 1


__all__ = ["FrontProcess", "FrontSettings", "State", "serve"]
