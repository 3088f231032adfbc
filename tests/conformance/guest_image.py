# SPDX-License-Identifier: Apache-2.0
"""The guest: Debian's cloud kernel and initramfs, and a debootstrap root as an ext4 image; made once, then cached."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.kit import Failed, run, say

SUITE = "bookworm"
PACKAGES = "linux-image-cloud-amd64,initramfs-tools,busybox-static,e2fsprogs,kmod,zstd,udev"
IMAGE_BYTES = 1 << 30
_SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d")


@dataclass(frozen=True)
class GuestImage:
    """`root` is the image of the root disk, to be copied, never written."""

    kernel: Path
    initramfs: Path
    root: Path


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prism-dr" / f"guest-{SUITE}"


def guest_image() -> GuestImage:
    """Needs root and a Debian mirror when it is not cached yet. Raises Failed."""
    folder = cache_folder()
    if not (folder / "root.img").exists():
        _make(folder)
    return GuestImage(folder / "vmlinuz", folder / "initrd.img", folder / "root.img")


def _make(folder: Path) -> None:
    say(f"    making the guest's root in {folder} (a few minutes, once)")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="guest-", dir="/var/tmp") as work:
        root = Path(work) / "root"
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, root, _mirror(), seconds=1800)
        for pattern, name in (("vmlinuz-*", "vmlinuz"), ("initrd.img-*", "initrd.img")):
            found = sorted((root / "boot").glob(pattern))
            if not found:
                raise Failed(f"debootstrap left no {pattern} in /boot")
            shutil.copy(found[-1], folder / name)
        draft = folder / "root.new"
        draft.unlink(missing_ok=True)
        with draft.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", "-d", root, draft)
        draft.replace(folder / "root.img")


def _mirror() -> str:
    """Where this machine gets its Debian packages from."""
    for source in map(Path, _SOURCES):
        for path in sorted(source.iterdir()) if source.is_dir() else [source] if source.exists() else []:
            found = re.search(r"^(?:URIs:|deb(?:\s+\[[^]]*\])?)\s+(\S+)", path.read_text(), re.MULTILINE)
            if found:
                return found[1]
    raise Failed("this machine's apt sources name no Debian mirror")
