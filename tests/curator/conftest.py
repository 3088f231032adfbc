# SPDX-License-Identifier: Apache-2.0
"""Small file systems of their own, to be really full."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stargate.peer.identity import create_identity
from stargate.units import MiB
from tests.support.engine_site import EngineSite
from tests.support.loopback import loopback


def mount(kind: str, folder: Path, size_bytes: int) -> None:
    """Raises CalledProcessError where that is not allowed."""
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", os.fspath(folder)]
    else:
        image = folder.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(size_bytes)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", os.fspath(image)], check=True, capture_output=True)
        command = ["mount", "-o", "loop", os.fspath(image), os.fspath(folder)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="cur-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def small() -> Iterator[Callable[..., Path]]:
    """`small(bytes, kind)`: an empty folder on a file system of that size. Skips where nothing can be mounted."""
    base = Path(tempfile.mkdtemp(prefix="full-", dir="/tmp"))
    made: list[Path] = []

    def make(size_bytes: int, kind: str = "tmpfs") -> Path:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a small file system")
        folder = base / str(len(made))
        folder.mkdir()
        try:
            mount(kind, folder, size_bytes)
        except (OSError, subprocess.CalledProcessError) as exc:
            pytest.skip(f"no {kind} can be mounted here: {exc}")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "-l", os.fspath(folder)], check=False)
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def sites(small: Callable[..., Path]) -> Iterator[Callable[..., EngineSite]]:
    """`sites(bytes, ...)`: a running engine on a file system of its own."""
    with ExitStack() as stack:

        def start(
            size_bytes: int = 192 * MiB, kind: str = "tmpfs", *, started: bool = True, **more: object
        ) -> EngineSite:
            settings = {"log_cap_mib": 24, "segment_mib": 2, **more}
            site = EngineSite(small(size_bytes, kind) / "site", **settings)  # type: ignore[arg-type]
            site._store_args += ["--curator-seconds", "0.5"]
            stack.callback(site.stop)
            return site.start() if started else site

        yield start


@pytest.fixture
def pair(sites: Callable[..., EngineSite]) -> tuple[EngineSite, EngineSite]:
    """Two paired sites; the second one is small."""
    a = sites(peer=True, address=loopback(31), started=False)
    b = sites(96 * MiB, peer=True, address=loopback(32), started=False)
    keys = [create_identity(s.folder / "identity", s.folder.parent.name).certificate_pem for s in (a, b)]
    for site in (a, b):
        site.start()
    a.engine.peer_set(b.site_id, "b", keys[1])
    b.engine.peer_set(a.site_id, "a", keys[0])
    return a, b


class Hog:
    """Another program that takes the space of an engine's file system, to the last byte if it is told to."""

    def __init__(self, site: EngineSite) -> None:
        self._path = site.folder.parent / "hog"

    def take(self, *, leave_bytes: int = 0) -> None:
        stat = os.statvfs(self._path.parent)
        wanted = max(0, stat.f_bavail * stat.f_frsize - leave_bytes)
        with self._path.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                while wanted >= size:
                    try:
                        wanted -= file.write(bytes(min(size, wanted)))
                    except OSError:
                        break
            os.fsync(file.fileno())

    def let_go(self) -> None:
        self._path.unlink(missing_ok=True)
