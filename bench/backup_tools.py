# SPDX-License-Identifier: Apache-2.0
"""What people would use instead of replication: restic, borg, btrfs send; each over a fresh folder per round.

Wall seconds include a final `sync` of the file system the target lies on. The source image is in the page cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Protocol

from bench.servers import BenchError
from stargate.units import MiB


class Tool(Protocol):
    """`full`, then `increment`, then `restore`: seconds. `restored`: the image that must equal v2."""

    restored: Path

    def full(self) -> float: ...

    def increment(self) -> float: ...

    def restore(self) -> float: ...

    def close(self) -> None: ...


def run(command: list[str], env: dict[str, str] | None = None, folder: Path | None = None) -> None:
    """Raises BenchError with what it said."""
    done = subprocess.run(
        command, env={**os.environ, **(env or {})}, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")


def timed(command: list[str], where: Path, env: dict[str, str] | None = None, folder: Path | None = None) -> float:
    """Seconds, with a final sync of the file system of `where`."""
    sync(where)
    started = time.monotonic()
    run(command, env, folder)
    sync(where)
    return time.monotonic() - started


def sync(where: Path) -> None:
    """All of the file system that `where` lies on, and of no other."""
    run(["sync", "-f", str(where)])


class Restic:
    """Repository format 2, default compression."""

    def __init__(self, folder: Path, first: Path, second: Path) -> None:
        self._folder = folder
        self._disk = Source(folder, first, second)
        self._repo = str(folder / "repo")
        self._env = {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(folder / "cache")}
        self._out = folder / "out"
        self.restored = self._out / str(self._disk.path).lstrip("/")
        run(["restic", "-r", self._repo, "init", "--repository-version", "2"], self._env)

    def _backup(self) -> float:
        return timed(["restic", "-r", self._repo, "backup", "--quiet", str(self._disk.path)], self._folder, self._env)

    def full(self) -> float:
        return self._backup()

    def increment(self) -> float:
        self._disk.show_second()
        return self._backup()

    def restore(self) -> float:
        return timed(
            ["restic", "-r", self._repo, "restore", "latest", "--target", str(self._out)], self._folder, self._env
        )

    def close(self) -> None: ...


class Borg:
    """LZ4 and fixed 64-KiB chunks: faster with disk images than its default chunker, and deduplicates as well."""

    def __init__(self, folder: Path, first: Path, second: Path) -> None:
        self._folder = folder
        self._disk = Source(folder, first, second)
        self._repo = str(folder / "repo")
        self._env = {
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
            "BORG_BASE_DIR": str(folder / "base"),
        }
        self._out = folder / "out"
        self._out.mkdir()
        self.restored = self._out / str(self._disk.path).lstrip("/")
        run(["borg", "init", "-e", "none", self._repo], self._env)

    def _create(self, name: str) -> float:
        options = ["-C", "lz4", "--chunker-params", "fixed,65536"]
        return timed(
            ["borg", "create", *options, f"{self._repo}::{name}", str(self._disk.path)], self._folder, self._env
        )

    def full(self) -> float:
        return self._create("v1")

    def increment(self) -> float:
        self._disk.show_second()
        return self._create("v2")

    def restore(self) -> float:
        return timed(["borg", "extract", "--sparse", f"{self._repo}::v2"], self._folder, self._env, self._out)

    def close(self) -> None: ...


class Btrfs:
    """`btrfs send | btrfs receive` between two file systems in loop devices; snapshots are made beforehand."""

    def __init__(self, folder: Path, first: Path, second: Path) -> None:
        self._folder, self._first, self._second = folder, first, second
        self._mounts: list[Path] = []
        for name in "ab":
            self._make(name)
        run(["btrfs", "subvolume", "create", str(folder / "a" / "vol")])
        run(["cp", "--sparse=always", str(first), str(folder / "a" / "vol" / "disk.raw")])
        self._snapshot("s1")
        self.restored = folder / "c" / "s2" / "disk.raw"

    def _make(self, name: str) -> None:
        image, mount = self._folder / f"{name}.img", self._folder / name
        mount.mkdir()
        run(["truncate", "-s", "16G", str(image)])
        run(["mkfs.btrfs", "-q", "-K", str(image)])
        run(["mount", "-o", "loop,noatime", str(image), str(mount)])
        self._mounts.append(mount)

    def _snapshot(self, name: str) -> None:
        sync(self._folder / "a")
        run(["btrfs", "subvolume", "snapshot", "-r", str(self._folder / "a" / "vol"), str(self._folder / "a" / name)])
        sync(self._folder / "a")

    def _send(self, what: str, to: str) -> float:
        pipe = f"set -o pipefail; btrfs send -q {what} | btrfs receive -q {self._folder / to}"
        return timed(["bash", "-c", pipe], self._folder / to)

    def full(self) -> float:
        return self._send(str(self._folder / "a" / "s1"), "b")

    def increment(self) -> float:
        with (self._folder / "a" / "vol" / "disk.raw").open("r+b") as disk:
            for offset, data in changes(self._first, self._second):
                disk.seek(offset)
                disk.write(data)
        self._snapshot("s2")
        return self._send(f"-p {self._folder / 'a' / 's1'} {self._folder / 'a' / 's2'}", "b")

    def restore(self) -> float:
        self._make("c")
        return self._send(str(self._folder / "b" / "s2"), "c")

    def close(self) -> None:
        for mount in self._mounts:
            run(["umount", str(mount)])


class Source:
    """One path that is first one image, then the other: what a backup of the same file meets a day later."""

    def __init__(self, folder: Path, first: Path, second: Path) -> None:
        self.path = folder / "disk.raw"
        self._second = second
        os.link(first, self.path)

    def show_second(self) -> None:
        self.path.unlink()
        os.link(self._second, self.path)


TOOLS: dict[str, tuple[str, type[Restic] | type[Borg] | type[Btrfs]]] = {
    "restic": ("restic", Restic),
    "borg": ("borg", Borg),
    "btrfs send": ("btrfs", Btrfs),
}
"""Name of the peer -> (program, class)."""


def installed() -> list[str]:
    return [name for name, (program, _) in TOOLS.items() if shutil.which(program)]


def changes(first: Path, second: Path, block_bytes: int = 4096) -> list[tuple[int, bytes]]:
    """The blocks of `second` that differ from `first`; neighbours within a MiB are one."""
    found: list[tuple[int, bytes]] = []
    piece = MiB
    with first.open("rb") as a, second.open("rb") as b:
        at = 0
        while new := b.read(piece):
            old = a.read(piece)
            if old != new:
                found += [(at + start, new[start:end]) for start, end in _runs(old, new, block_bytes)]
            at += len(new)
    return found


def _runs(old: bytes, new: bytes, block_bytes: int) -> list[tuple[int, int]]:
    """(start, end) of what differs, in whole blocks."""
    found: list[tuple[int, int]] = []
    for start in range(0, len(new), block_bytes):
        end = start + block_bytes
        if old[start:end] == new[start:end]:
            continue
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found
