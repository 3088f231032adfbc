# SPDX-License-Identifier: Apache-2.0
"""One run: a real engine, a hostile client on its NBD port, a hostile paired site on its peer port, a neighbour."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from stargate.peer.identity import Peer, PeerSet, client_context, create_identity
from stargate.units import GiB, MiB
from tests.fuzz import nbd
from tests.fuzz.neighbour import BLOCKS, Neighbour
from tests.fuzz.peer import Liar
from tests.support.engine_site import EngineSite, wait_for

VICTIM_BYTES = 16 * MiB
QUIET_SECONDS, ATTACK_SECONDS = 0.4, 1.0
SAY_SECONDS = 30.0
CLOSE_SECONDS = 20.0
"""How long the server may take to finish a connection whose client has said its last word."""

GROWTH_BYTES_MAX = 64 * MiB
NEIGHBOUR_SHARE_MIN = 0.8
GRANT_TIMES = 50
NOBODY = str(uuid.UUID(int=0))


class StuckError(Exception):
    """The server neither answers nor closes."""


@dataclass
class Report:
    """What was tried and found. Rates in requests per second, growth in bytes of the most memory that a process ever
    held, from before the first hostile message."""

    seed: int
    nbd_messages: int = 0
    peer_messages: int = 0
    connections: int = 0
    quiet: list[float] = field(default_factory=list)
    attacked: list[float] = field(default_factory=list)
    growth_bytes: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    @property
    def messages(self) -> int:
        return self.nbd_messages + self.peer_messages

    @property
    def neighbour_share(self) -> float:
        """The neighbour's rate under attack as a part of its rate while the attacker only makes up messages."""
        if not self.quiet or not self.attacked or not sum(self.quiet):
            return 0.0
        return (sum(self.attacked) / len(self.attacked)) / (sum(self.quiet) / len(self.quiet))


class Attack:
    """`run` sends at least `messages`; the same seed sends the same conversations in the same order."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.report = Report(seed)
        self._rng = Random(seed)
        self._site = EngineSite(folder / "site", peer=True)
        ours = create_identity(folder / "attacker", "attacker")
        theirs = create_identity(self._site.folder / "identity", "site")
        self._own = _some_uuid(self._rng)
        self._tls = client_context(
            ours, PeerSet([Peer(self._site.site_id, theirs.certificate_pem)]), self._site.site_id
        )
        self._certificate = ours.certificate_pem
        self._granted = 0
        self._grant = ("", "")
        self._first_bytes: dict[str, int] = {}

    def run(self, messages: int, *, nice: int = 0, say: Callable[[str], None] = print) -> Report:
        """`nice` for the attack alone: a real attacker burns the cores of another machine."""
        site = self._site
        try:
            site.start()
            site.engine.peer_set(self._own, "attacker", self._certificate)
            site.disk(VICTIM_BYTES, "victim")
            disk = site.disk(BLOCKS * 4096, "neighbour")
            neighbour = Neighbour(site.engine.nbd_socket, self.report.seed)
            os.nice(nice)
            try:
                self._warm_up(neighbour, disk)
                self._attack(neighbour, messages, say)
            finally:
                self.report.violations += neighbour.stop()
            self._still_works()
        finally:
            site.stop()
            self._read_logs()
        return self.report

    def _warm_up(self, neighbour: Neighbour, disk: str) -> None:
        """Drain and fold the neighbour's writes once: what that takes of memory is no growth by an attack. The peak of
        that is forgotten, so that it hides none."""
        wait_for(lambda: neighbour.count > BLOCKS, "the neighbour's first requests")
        self._site.engine.wait_rooted(self._site.snapshot(disk), 60)
        for process in (self._site.front, self._site.store):
            with contextlib.suppress(OSError):  # a kernel without it: the peak stays
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak is what is held now
        self._measure()

    def _attack(self, neighbour: Neighbour, messages: int, say: Callable[[str], None]) -> None:
        """Phases take turns: making up messages without sending, then sending them."""
        rng, said = Random(self.report.seed), time.monotonic()
        idle, sent = self._conversations(rng, ""), self._conversations(self._rng, self._own)
        while self.report.messages < messages and not self.report.violations:
            for sending, seconds, rates in (
                (False, QUIET_SECONDS, self.report.quiet),
                (True, ATTACK_SECONDS, self.report.attacked),
            ):
                start, before = time.monotonic(), neighbour.count
                while time.monotonic() - start < seconds and not self.report.violations:
                    port, data, count = next(sent if sending else idle)
                    if sending:
                        self._send(port, data, count)
                rates.append((neighbour.count - before) / (time.monotonic() - start))
                self._measure()
            if time.monotonic() - said > SAY_SECONDS:
                said = time.monotonic()
                say(f"  {self.report.messages} messages, the neighbour kept {self.report.neighbour_share:.0%}")

    def _conversations(self, rng: Random, own: str) -> Iterator[tuple[str, bytes, int]]:
        """Both ports in turn. Without an `own` site id they are only made up: no session is granted for them."""
        liar = Liar(rng, own or NOBODY)
        while True:
            yield "nbd", *nbd.conversation(rng, 60, VICTIM_BYTES)
            session, snapshot = self._granted_session(rng) if own else (NOBODY, NOBODY)
            yield "peer", *liar.conversation(session, snapshot, 60)

    def _granted_session(self, rng: Random) -> tuple[str, str]:
        if self._granted % GRANT_TIMES == 0:
            self._grant = (_some_uuid(rng), _some_uuid(rng))
            self._site.engine.grant(self._grant[0], self._own, self._grant[1], GiB, 3600)
        self._granted += 1
        return self._grant

    def _send(self, port: str, data: bytes, count: int) -> None:
        self.report.connections += 1
        try:
            if port == "nbd":
                self.report.nbd_messages += count
                self._say_nbd(data)
            else:
                self.report.peer_messages += count
                self._say_peer(data)
        except StuckError as exc:
            self.report.violations.append(f"{port} connection {self.report.connections}: {exc}")
        for name in ("front", "store"):
            process = getattr(self._site, name)
            if process.poll() is not None:
                self.report.violations.append(f"the {name} ended with {process.returncode}")

    def _say_nbd(self, data: bytes) -> None:
        """Send and read at the same time: a server must not have to wait for us to read."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(CLOSE_SECONDS)
            try:
                sock.connect(str(self._site.engine.nbd_socket))
            except OSError as exc:
                raise StuckError(f"refused: {exc}") from exc
            sock.setblocking(False)
            with contextlib.suppress(ConnectionError):
                _exchange(sock, data)

    def _say_peer(self, data: bytes) -> None:
        address = (self._site.address, self._site.peer_port)
        try:
            with socket.create_connection(address, CLOSE_SECONDS) as raw, self._tls.wrap_socket(raw) as sock:
                _monologue(sock, data)
        except TimeoutError as exc:
            raise StuckError("neither answered nor closed") from exc
        except (ConnectionError, ssl.SSLError) as exc:
            raise StuckError(f"no connection: {exc}") from exc

    def _measure(self) -> None:
        for name in ("front", "store"):
            process = getattr(self._site, name)
            with contextlib.suppress(OSError):
                held = _peak_bytes(process.pid)
                first = self._first_bytes.setdefault(name, held)
                self.report.growth_bytes[name] = max(self.report.growth_bytes.get(name, 0), held - first)

    def _still_works(self) -> None:
        """Every order is still taken: a snapshot of the victim is complete, the neighbour's port answers."""
        try:
            disk = next(d["vdisk"] for d in self._site.engine.vdisks() if d["export_name"] == "victim")
            point = self._site.snapshot(disk)
            self._site.engine.wait_rooted(point, 60)
            self._site.engine.usage()
        except Exception as exc:
            self.report.violations.append(f"the site no longer works: {exc!r}")

    def _read_logs(self) -> None:
        for log in sorted(self._site.folder.glob("*.log")):
            text = log.read_text()
            if "Traceback" in text:
                at = text.index("Traceback")
                self.report.violations.append(f"{log.name} has an unexpected error:\n{text[at : at + 2000]}")


def _monologue(sock: ssl.SSLSocket, data: bytes) -> None:
    """Send all, then half-close; answers are short, so they fit into the buffers meanwhile."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 16):
            pass


def _exchange(sock: socket.socket, data: bytes) -> None:
    """Send all, then half-close; read until the server closes. Raises StuckError, ConnectionError."""
    deadline = time.monotonic() + CLOSE_SECONDS
    view, at = memoryview(data), 0
    while time.monotonic() < deadline:
        poll = select.poll()  # select takes no descriptor above 1,023
        poll.register(sock, select.POLLIN | (select.POLLOUT if at < len(view) else 0))
        event = sum(found for _, found in poll.poll(1000))
        if event & ~select.POLLOUT and not sock.recv(1 << 18):
            return
        if event & select.POLLOUT:
            at += sock.send(view[at : at + (1 << 18)])
            if at == len(view):
                sock.shutdown(socket.SHUT_WR)
    raise StuckError(f"neither answered nor closed, {at} of {len(view)} bytes taken")


def _some_uuid(rng: Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128)))


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
