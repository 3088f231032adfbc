# SPDX-License-Identifier: Apache-2.0
"""Writes the bundle: scrubbed, bounded, readable by its owner only, whole or not at all."""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from prism.layout import Layout
from prism.runtime.bundle.collect import Part, as_json, site_parts
from prism.runtime.bundle.scrub import scrub, secrets_of
from prism.runtime.doctor import site_folders
from prism.runtime.lock import holder

BYTES_MAX = 64 * 1024 * 1024
"""Of all parts together, before compression."""


def write(target: Path, root: Path, *, most: int = BYTES_MAX) -> list[str]:
    """Make the bundle of the sites below `root`; returns the names of parts that did not fit."""
    folders = site_folders(root)
    secrets = sorted({one for folder in folders for one in secrets_of(Layout(folder).identity)}, key=len, reverse=True)
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    left_out: list[str] = []
    room = most
    try:
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in _parts(root, folders):
                content = scrub(text, secrets).encode("utf-8", errors="replace")
                if len(content) > room:
                    left_out.append(name)
                    continue
                room -= len(content)
                _add(archive, name, content)
            _add(archive, "left-out.txt", "\n".join(left_out).encode())
        fresh.rename(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return left_out


def _parts(root: Path, folders: list[Path]) -> Iterator[Part]:
    """Small and telling ones first, so that logs are what does not fit."""
    running = holder(root) is not None
    yield "machine.json", as_json(_machine(running))
    parts: list[Part] = []
    for folder in folders:
        parts += [(f"{folder.name}/{name}", text) for name, text in site_parts(Layout(folder), running=running)]
    yield from sorted(parts, key=lambda part: "/logs/" in part[0])


def _machine(running: bool) -> dict[str, object]:
    return {
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "supervisor_running": running,
        "python": platform.python_version(),
        "kernel": platform.platform(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "memory": Path("/proc/meminfo").read_text(encoding="ascii").splitlines()[:6],
        # Names only: what is set may matter, what to is nobody's business.
        "environment": sorted(name for name in os.environ if name.startswith("PRISM") or name.endswith("_URL")),
        "packages": sorted(f"{one.metadata['Name']} {one.version}" for one in importlib.metadata.distributions()),
    }


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(f"prism-support/{name}")
    entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
    archive.addfile(entry, io.BytesIO(content))
