# SPDX-License-Identifier: Apache-2.0
"""The servers under measurement: qemu-nbd and nbdkit over one raw file, and Stargate's own two processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from stargate.control.client import Engine
from stargate.errors import StargateError
from stargate.units import GiB, MiB

START_SECONDS = 60.0
SETTLE_SECONDS = 300.0
IDLE_CORES = 0.05
TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The measurement cannot go on; the text says why and what to do."""


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


def cpu_seconds(pids: list[int]) -> float:
    """User and system time so far, of these processes and their threads."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def wait_until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Raises BenchError when `condition` is not true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)


class Server(Protocol):
    """A running NBD server with one disk."""

    name: str
    uri: str

    def pids(self) -> list[int]: ...

    def settle(self) -> None:
        """Let what a job left behind (dirty pages, undrained log) reach the disk before somebody else is measured."""

    def stop(self) -> None: ...


class RawFile:
    """The disk image of the peers, fully written."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        block = os.urandom(4 * MiB)
        with path.open("wb") as file:
            for _ in range(size_bytes // len(block)):
                file.write(block)
            os.fdatasync(file.fileno())

    def sync(self) -> None:
        fd = os.open(self.path, os.O_RDWR)
        os.fdatasync(fd)
        os.close(fd)


class PeerServer:
    """qemu-nbd or nbdkit: one process over the raw file."""

    def __init__(self, name: str, raw: RawFile) -> None:
        port = free_port()
        command = {
            "qemu-nbd": f"qemu-nbd -t -f raw --cache=writeback --aio=threads -e 8 -b 127.0.0.1 -p {port} {raw.path}",
            "nbdkit": f"nbdkit -f -i 127.0.0.1 -p {port} file {raw.path}",
        }[name]
        self.name = name
        self.uri = f"nbd://127.0.0.1:{port}/"
        self._raw = raw
        self._process = subprocess.Popen(command.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: _answers(port), f"{name} to listen", START_SECONDS)

    def pids(self) -> list[int]:
        return [self._process.pid]

    def settle(self) -> None:
        self._raw.sync()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class StargateServer:
    """Front and store with default settings over a folder of their own. `size_bytes` 0: no disk yet; with a `site_id`
    it takes part in replication."""

    def __init__(
        self,
        folder: Path,
        size_bytes: int = 0,
        front: tuple[str, ...] = ("-m", "stargate"),
        *,
        address: str = "127.0.0.1",
        site_id: str = "",
    ) -> None:
        self.name = "stargate"
        self.folder = folder
        self.address = address
        self.site_id = site_id
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port(address)
        self.peer_port = free_port(address) if site_id else 0
        self.uri = f"nbd://{address}:{port}/bench"
        self.engine = Engine(folder / "run")
        peer = ("--peer-port", str(self.peer_port), "--site-id", site_id)
        self._store = self._spawn("-m", "stargate", "store", "--listen", address, *peer)
        wait_until((folder / "run" / "internal.sock").exists, f"the store; see {folder}/*.log", START_SECONDS)
        self._front = self._spawn(*front, "front", "--listen", address, "--nbd-port", str(port))
        wait_until(self._ready, f"the engine; see {folder}/*.log", START_SECONDS)
        if size_bytes:
            self.engine.vdisk_create(str(uuid.uuid4()), size_bytes, export_name="bench")

    def _spawn(self, *args: str) -> subprocess.Popen[bytes]:
        part = next(arg for arg in args if arg in ("front", "store"))
        with (self.folder / f"{part}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, *args, "--data", str(self.folder)], stdout=log, stderr=log)

    def _ready(self) -> bool:
        if self._front.poll() is not None or self._store.poll() is not None:
            raise BenchError(f"the engine ended at start; see {self.folder}/*.log")
        try:
            return bool(self.engine.status()["store_connected"])
        except StargateError:
            return False

    def front_pid(self) -> int:
        return self._front.pid

    def store_pid(self) -> int:
        return self._store.pid

    def pids(self) -> list[int]:
        return [self._front.pid, self._store.pid]

    def undrained_bytes(self) -> int:
        status = self.engine.status()
        return int(status["appended"]) - int(status["covered"])

    def settle(self) -> None:
        """Drained, and folded as far as the store wants to: no work of ours runs while a peer is measured."""
        wait_until(lambda: self.undrained_bytes() < 64 * 1024, "the drain to finish", SETTLE_SECONDS)
        wait_until(self._idle, "the fold to finish", SETTLE_SECONDS)

    def _idle(self) -> bool:
        before = cpu_seconds(self.pids())
        time.sleep(1.0)
        return cpu_seconds(self.pids()) - before < 2 * IDLE_CORES

    def stop(self) -> None:
        for process in (self._front, self._store):
            process.terminate()
        for process in (self._front, self._store):
            process.wait(60)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def space_needed(disk_bytes: int, *, sustained: bool) -> int:
    """The raw file, our log (4 GiB), the prepared part of our disk, and for the sustained row hot tier and folded
    chunks."""
    ours = 4 * GiB + (disk_bytes + 12 * GiB + disk_bytes if sustained else 12 * GiB)
    return disk_bytes + ours
