# SPDX-License-Identifier: Apache-2.0
"""Foreign tools on our exports: run a program, an export as a file (nbdfuse), a file system in it (loop mount)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.engine_site import wait_for


def run(*command: object, **kwargs: object) -> str:
    """Run a tool and give its output; its own words on failure."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120, **kwargs)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return str(done.stdout)


@contextmanager
def nbdfuse(uri: str, folder: Path) -> Iterator[Path]:
    """The export as a file `nbd` in `folder`."""
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(["nbdfuse", str(folder / "nbd"), uri], stdin=subprocess.DEVNULL)
    shown = folder / "nbd"
    shown.touch()
    try:
        wait_for(lambda: process.poll() is not None or shown.stat().st_size > 0, "nbdfuse")
        assert process.poll() is None, "nbdfuse ended"
        yield shown
    finally:
        subprocess.run(["fusermount3", "-u", str(shown)], check=False)
        process.wait(20)


@contextmanager
def mounted(device: Path, folder: Path) -> Iterator[Path]:
    """`device` mounted through a loop device."""
    folder.mkdir(exist_ok=True)
    run("mount", "-o", "loop", device, folder)
    try:
        yield folder
    finally:
        run("umount", folder)
