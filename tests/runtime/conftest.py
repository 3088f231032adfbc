# SPDX-License-Identifier: Apache-2.0
"""Helpers of the runtime's tests: site folders and small children that are real processes."""

import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prism.layout import Layout, SiteConfig
from prism.runtime import privilege
from prism.runtime.children import ChildSpec

SpecMaker = Callable[..., ChildSpec]


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder with a short path (unix sockets) that every user may pass."""
    folder = Path(tempfile.mkdtemp(prefix="pr-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(short_dir: Path) -> tuple[Layout, SiteConfig]:
    layout = Layout(short_dir / "site1")
    return layout, layout.create(number=1, listen="127.0.0.1")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def child_spec(short_dir: Path) -> SpecMaker:
    """Make the spec of a child that writes its pid to `<name>.pid` and then runs `body` (Python)."""

    def make(name: str, body: str = "time.sleep(600)", **options: object) -> ChildSpec:
        pid_file = short_dir / f"{name}.pid"
        code = f"import os, pathlib, signal, sys, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); "
        command = [*privilege.ourselves().prefix(death_signal="TERM"), sys.executable, "-c", code + body]

        def prepare() -> list[str]:
            pid_file.unlink(missing_ok=True)
            return command

        def ready() -> bool:
            return pid_file.exists() and bool(pid_file.read_text())

        settings: dict[str, object] = {"stage": 0, "stop_signal": signal.SIGTERM, "start_seconds": 20.0, **options}
        return ChildSpec(name=name, prepare=prepare, ready=ready, **settings)  # type: ignore[arg-type]

    return make
