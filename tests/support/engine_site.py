# SPDX-License-Identifier: Apache-2.0
"""A real engine in real processes, for tests: `python -m stargate store` and `front` over a folder of the test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from stargate.control.client import Engine
from stargate.errors import StargateError, Unavailable
from stargate.nbd.client import NbdClient
from stargate.units import MiB
from tests.support.loopback import loopback

READY_SECONDS = 30


def wait_for(condition: Callable[[], object], what: str, seconds: float = READY_SECONDS) -> object:
    """Poll until `condition` gives something true; fail with `what`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.02)


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


class EngineSite:
    """One site's engine. `front` and `store` are its processes; both may be killed and started again."""

    def __init__(
        self,
        folder: Path,
        *,
        address: str = loopback(1),
        tcp: bool = False,
        peer: bool = False,
        log_cap_mib: int = 64,
        segment_mib: int = 4,
        hot_limit_mib: int = 256,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.site_id = str(uuid.uuid5(uuid.NAMESPACE_URL, str(folder)))
        self.address = address
        self.nbd_port = free_port(address) if tcp else 0
        self.peer_port = free_port(address) if peer else 0
        self.engine = Engine(folder / "run")
        self._front_args = ["--log-cap-mib", str(log_cap_mib), "--segment-mib", str(segment_mib)]
        self._store_args = ["--hot-limit-mib", str(hot_limit_mib), "--site-id", self.site_id]
        self.front: subprocess.Popen[bytes] | None = None
        self.store: subprocess.Popen[bytes] | None = None

    def _spawn(self, part: str, args: list[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "stargate", part, "--data", str(self.folder), "--listen", self.address, *args]
        with (self.folder / f"{part}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def start_store(self) -> None:
        self.store = self._spawn("store", ["--peer-port", str(self.peer_port), *self._store_args])

    def start_front(self) -> None:
        self.front = self._spawn("front", ["--nbd-port", str(self.nbd_port), *self._front_args])

    def start(self) -> EngineSite:
        self.start_store()
        self.start_front()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        wait_for(self._is_ready, f"the engine of {self.folder}:\n{self.logs()}")

    def _is_ready(self) -> bool:
        for part, process in (("front", self.front), ("store", self.store)):
            if process is not None and process.poll() is not None:
                raise AssertionError(f"{part} ended with {process.returncode}:\n{self.logs()}")
        try:
            return bool(self.engine.status()["store_connected"]) or self.store is None
        except Unavailable:
            return False

    def logs(self) -> str:
        return "\n".join(p.read_text()[-3000:] for p in sorted(self.folder.glob("*.log")))

    def kill(self, *parts: str) -> None:
        """kill -9 of `front`, `store` or (none named) both."""
        processes = {part: getattr(self, part) for part in parts or ("front", "store")}
        for process in processes.values():
            if process is not None:
                process.send_signal(signal.SIGKILL)
        for part, process in processes.items():
            if process is not None:
                process.wait()
                setattr(self, part, None)

    def stop(self) -> None:
        for part in ("front", "store"):
            process = getattr(self, part)
            if process is not None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                setattr(self, part, None)

    def restart(self) -> EngineSite:
        """As after a crash of the site's processes."""
        self.kill()
        return self.start()

    # -- shorthand ----------------------------------------------------------------------------------------------------

    def disk(self, size_bytes: int = 64 * MiB, name: str = "") -> str:
        vdisk = str(uuid.uuid4())
        self.engine.vdisk_create(vdisk, size_bytes, export_name=name or f"disk-{vdisk[:8]}")
        return vdisk

    def clone(self, snapshot: str, disk: str) -> str:
        vdisk = str(uuid.uuid4())
        source = {"snapshot": snapshot, "disk": disk}
        self.engine.vdisk_create(vdisk, 0, export_name=f"clone-{vdisk[:8]}", source=source)
        return vdisk

    def snapshot(self, *disks: str) -> str:
        snapshot = str(uuid.uuid4())
        self.engine.snapshot_create(snapshot, list(disks), manifest={"test": True})
        return snapshot

    def open(self, name: str) -> NbdClient:
        return NbdClient.unix(self.engine.nbd_socket, name)

    def open_snapshot(self, snapshot: str, disk: str) -> NbdClient:
        return self.open(f"snapshot:{snapshot}:{disk}")

    def content(self, name: str) -> bytes:
        """All bytes of an export."""
        with self.open(name) as client:
            step = MiB
            return b"".join(
                client.read(at, min(step, client.size_bytes - at)) for at in range(0, client.size_bytes, step)
            )

    def uri(self, name: str) -> str:
        """For foreign clients."""
        if self.nbd_port:
            return f"nbd://{self.address}:{self.nbd_port}/{name}"
        return f"nbd+unix:///{name}?socket={os.fspath(self.engine.nbd_socket)}"

    def drained(self) -> bool:
        try:
            status = self.engine.status()
        except StargateError:
            return False
        return bool(status["covered"] >= status["durable"] >= status["appended"])
