# SPDX-License-Identifier: Apache-2.0
"""N10: a real QEMU guest whose root and data disks are ours, while the engine is killed and started again.

The root disk is reached through the unix socket, the data disk over TLS, both with reconnect-delay. The guest must not
see one I/O error, all checksums must hold, and e2fsck must be content with the snapshots.
"""

from __future__ import annotations

import queue
import shlex
import subprocess
import threading
import time
from pathlib import Path

from stargate.units import MiB
from tests.conformance.guest_image import IMAGE_BYTES, guest_image
from tests.conformance.kit import Bench, Check, Failed, demand, run, say, start
from tests.conformance.secured import certificate
from tests.support.engine_site import EngineSite
from tests.support.foreign import mounted

DATA_BYTES = 256 * MiB
ROUNDS = 40
KILLS = {6: ("front",), 14: ("front", "store"), 22: ("store",), 30: ("front", "store")}
"""After which round of the guest which processes get kill -9."""
SNAPSHOT_AFTER = 18
SILENCE_SECONDS = 300.0
"""Emulated, on a busy machine: the longest that the guest may say nothing."""
RECONNECT_SECONDS = 120
SCRIPT = Path(__file__).with_name("guest_check.sh")


class Guest:
    """A running QEMU; `lines` of its serial console until it powered off."""

    def __init__(self, command: list[str]) -> None:
        say(f"    $ {shlex.join(command)}")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.said: list[str] = []

    def _read(self) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                self._lines.put(line.rstrip())
        self._lines.put(None)

    def next_line(self) -> str | None:
        """None when it is off. Raises Failed when it is silent for too long."""
        try:
            line = self._lines.get(timeout=SILENCE_SECONDS)
        except queue.Empty as error:
            raise Failed(f"the guest is silent; its last words: {self.said[-20:]}") from error
        if line is not None:
            self.said.append(line)
        return line

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _command(site: EngineSite, creds: Path, kernel: Path, initramfs: Path) -> list[str]:
    root = f"server.type=unix,server.path={site.engine.nbd_socket},export=guest-root"
    data = f"server.type=inet,server.host={site.address},server.port={site.nbd_port},export=guest-data,tls-creds=tls0"
    command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512", "-no-reboot"]
    command += ["-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none"]
    command += ["-kernel", str(kernel), "-initrd", str(initramfs), "-append"]
    command += [f"root=/dev/vda rw console=ttyS0 quiet panic=-1 init=/guest-check guest_rounds={ROUNDS}"]
    command += ["-object", f"tls-creds-x509,id=tls0,dir={creds},endpoint=client"]
    for name, where in (("root", root), ("data", data)):
        command += [
            "-blockdev",
            f"driver=nbd,node-name={name},{where},reconnect-delay={RECONNECT_SECONDS},discard=unmap",
        ]
        command += ["-device", f"virtio-blk-pci,drive={name}"]
    return command


def _root_image(bench: Bench, base: Path) -> Path:
    """The cached root with the guest's program in it."""
    image = bench.file("guest-root.img")
    run("cp", "--sparse=always", base, image)
    run("debugfs", "-w", "-R", f"write {SCRIPT} /guest-check", image)
    run("debugfs", "-w", "-R", "set_inode_field /guest-check mode 0100755", image)
    return image


def _live(site: EngineSite, guest: Guest, disks: list[str]) -> str:
    """The guest's whole life, with kills; gives the snapshot that was taken in the middle of it."""
    snapshot = ""
    pending = dict(KILLS)
    while (line := guest.next_line()) is not None:
        if "GUEST" not in line:
            continue
        words = line[line.index("GUEST") :].split()
        if words[1] == "FAILED:":
            raise Failed(f"{line}; {guest.said[-40:]}")
        number = int(words[2]) if words[1] == "round" else 0
        if number % 5 == 0:
            say(f"    {line}")
        if number in pending:
            _kill(site, pending.pop(number))
        if number == SNAPSHOT_AFTER:
            snapshot = site.snapshot(*disks)
    demand(not pending, f"the guest ended before {pending}")
    demand(any("GUEST done" in line for line in guest.said), f"the guest did not come to its end: {guest.said[-20:]}")
    return snapshot


def _kill(site: EngineSite, parts: tuple[str, ...]) -> None:
    began = time.monotonic()
    site.kill(*parts)
    if "store" in parts:
        site.start_store()
    if "front" in parts:
        site.start_front()
    site.wait_ready()
    say(f"    kill -9 of {' and '.join(parts)}; serving again after {time.monotonic() - began:.1f} s")


def _check_snapshot(bench: Bench, site: EngineSite, export: str, *, running: bool) -> None:
    """Of a guest that ran, the journal is replayed first, as a machine would do after a power cut."""
    copy = bench.file("snapshot.img")
    run("nbdcopy", f"nbd+unix:///{export}?socket={site.engine.nbd_socket}", copy)
    if running:
        run("e2fsck", "-p", copy)  # 0: nothing to do but the journal; 1: also that is a failure here
    run("e2fsck", "-fn", copy)


def guest(bench: Bench) -> None:
    image = guest_image()
    site = EngineSite(bench.folder / "guest", tcp=True, log_cap_mib=256, hot_limit_mib=2048)
    try:
        start(site)
        disks = [site.disk(IMAGE_BYTES, "guest-root"), site.disk(DATA_BYTES, "guest-data")]
        root = f"nbd+unix:///guest-root?socket={site.engine.nbd_socket}"
        run("nbdcopy", "--flush", _root_image(bench, image.root), root)
        creds = certificate(site, "qemu", bench.folder / "qemu-creds")
        machine = Guest(_command(site, creds, image.kernel, image.initramfs))
        try:
            snapshot = _live(site, machine, disks)
        finally:
            machine.end()
        for disk in disks:
            _check_snapshot(bench, site, f"snapshot:{snapshot}:{disk}", running=True)
        final = site.snapshot(*disks)
        for disk in disks:
            _check_snapshot(bench, site, f"snapshot:{final}:{disk}", running=False)
        with mounted(bench.folder / "snapshot.img", bench.folder / "fs") as folder:
            run("sh", "-c", f"cd {folder} && test $(wc -l < sums) = {ROUNDS} && sha256sum -c --quiet sums")
    finally:
        site.stop()


CHECKS = [
    Check(
        "guest",
        f"QEMU guest through {len(KILLS)} kills of the engine",
        guest,
        ("qemu-system-x86_64", "debootstrap", "mkfs.ext4", "debugfs", "e2fsck", "nbdcopy", "mount"),
        root=True,
    )
]
