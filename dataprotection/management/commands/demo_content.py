# SPDX-License-Identifier: Apache-2.0
"""Real content for a first look: VMs with ext4 disks that hold files, a volume group, an ISO-like file; < 200 MiB."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from dataprotection.models import VM, StorageContainer, StoredFile, VirtualDisk, VolumeGroup
from dataprotection.services import containers, files, images, vms, volume_groups
from dataprotection.services.disks import NewDisk
from prism.core.actor import Actor

MIB = 1 << 20
ACTOR = Actor.cli("demo content")
VMS = {"web01": 32, "app01": 32, "db01": 48}
"""Name -> size of the disk in MiB."""
VOLUME_GROUP = ("db01-data", 32)
ISO = ("/images/debian-demo.iso", 16)


class Command(BaseCommand):
    help = "Make the demo VMs, volume group and file. What is there already stays as it is."

    def handle(self, *args: Any, **options: Any) -> None:
        container = StorageContainer.objects.filter(name="default").first()
        if container is None:
            container = containers.create(name="default", actor=ACTOR)
        for name, size_mib in VMS.items():
            if not VM.objects.filter(name=name).exists():
                self._vm(name, size_mib, container)
        if not VolumeGroup.objects.filter(name=VOLUME_GROUP[0]).exists():
            self._volume_group(container)
        if not StoredFile.objects.filter(path=ISO[0]).exists():
            self._file(container)

    def _vm(self, name: str, size_mib: int, container: StorageContainer) -> None:
        new = NewDisk(size_mib * MIB, label="system")
        vm = vms.create(name=name, container=container, disks=[new], networks=["lan"], vcpus=2, actor=ACTOR)
        for disk in vm.disks.all():
            self._fill(disk, name)

    def _volume_group(self, container: StorageContainer) -> None:
        name, size_mib = VOLUME_GROUP
        group = volume_groups.create(name=name, container=container, disks=[NewDisk(size_mib * MIB)], actor=ACTOR)
        for disk in group.disks.all():
            self._fill(disk, name)
        vm = VM.objects.filter(name="db01").first()
        if vm is not None:
            volume_groups.attach(group, vm, actor=ACTOR)

    def _file(self, container: StorageContainer) -> None:
        path, size_mib = ISO
        with tempfile.TemporaryFile() as image:
            image.write(pattern("iso", size_mib * MIB))
            image.seek(0)
            files.upload(path=path, container=container, stream=image, size_bytes=size_mib * MIB, actor=ACTOR)
        self.stdout.write(f"{path}: {size_mib} MiB")

    def _fill(self, disk: VirtualDisk, name: str) -> None:
        with tempfile.TemporaryDirectory(prefix="demo-") as folder:
            image = make_image(Path(folder), name, disk.size_bytes)
            with image.open("rb") as stream:
                images.import_raw(disk, stream, size_bytes=disk.size_bytes, actor=ACTOR)
        self.stdout.write(f"{name}: {disk.size_bytes // MIB} MiB at {disk.export_name}")


def make_image(folder: Path, name: str, size_bytes: int) -> Path:
    """A raw image of an ext4 file system with files, or of a recognisable pattern where mkfs.ext4 is missing."""
    image = folder / "disk.raw"
    mkfs = shutil.which("mkfs.ext4") or shutil.which("mkfs.ext4", path="/usr/sbin:/sbin")
    if mkfs is None:
        image.write_bytes(pattern(name, size_bytes))
        return image
    tree = folder / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "data").mkdir()
    (tree / "etc" / "hostname").write_text(f"{name}\n")
    (tree / "README.txt").write_text(f"Demo content of {name}. Change it, snapshot it, restore it.\n")
    for number in range(8):
        (tree / "data" / f"file{number}.bin").write_bytes(pattern(f"{name}-{number}", size_bytes // 32))
    with image.open("wb") as stream:
        stream.truncate(size_bytes)
    label = name[:16]
    subprocess.run([mkfs, "-q", "-F", "-L", label, "-d", str(tree), str(image)], check=True, capture_output=True)
    return image


def pattern(seed: str, size_bytes: int) -> bytes:
    """Bytes that look like data (half of them compressible) and are the same for the same seed."""
    words = []
    for number in range(-(-size_bytes // 4096)):
        digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
        words.append((digest * 64) + f"{seed} block {number} ".encode().ljust(32) * 64)
    return b"".join(words)[:size_bytes]
