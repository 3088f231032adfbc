# SPDX-License-Identifier: Apache-2.0
"""VMs, volume groups, files, disks and images on the real engine."""

from __future__ import annotations

import io
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import call_command
from dp_kit import ACTOR, MiB, Queue, nbd, take

from dataprotection.management.commands.demo_content import make_image, pattern
from dataprotection.models import VM, ProtectionDomain, StorageContainer, StoredFile, VirtualDisk, VolumeGroup
from dataprotection.services import disks, domains, files, images, protection, vms, volume_groups
from dataprotection.services.disks import NewDisk
from prism.core.exceptions import Conflict, InvalidInput
from tests.support.engine_site import EngineSite


def random_bytes(count: int) -> bytes:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed).randbytes(count)


def test_it_imports_and_exports_the_same_bytes(make_vm: Callable[..., VM]) -> None:
    data = random_bytes(3 * MiB + 4096)
    disk = make_vm(size_bytes=4 * MiB).disks.get()
    images.import_raw(disk, io.BytesIO(data), size_bytes=len(data), actor=ACTOR)
    assert b"".join(images.export_raw(disk)) == data.ljust(4 * MiB, b"\0")


def test_it_exports_a_disk_of_a_snapshot(domain: ProtectionDomain, queue: Queue, engine: EngineSite) -> None:
    disk = VM.objects.get().disks.get(index=0)
    row = take(domain, queue)
    with nbd(engine, disk) as client:
        client.write(0, b"x" * 4096)
    assert b"".join(images.export_snapshot_disk(row, disk.uuid)) == bytes(MiB)


def test_it_refuses_an_image_larger_than_the_disk_and_one_that_ends_early(make_vm: Callable[..., VM]) -> None:
    disk = make_vm().disks.get()
    with pytest.raises(InvalidInput, match="the disk only"):
        images.import_raw(disk, io.BytesIO(), size_bytes=2 * MiB, actor=ACTOR)
    with pytest.raises(InvalidInput, match="ended 5 bytes early"):
        images.import_raw(disk, io.BytesIO(b"abc"), size_bytes=8, actor=ACTOR)


@pytest.mark.parametrize("size", [1, 4095, 4097, MiB + 17])
def test_it_keeps_files_of_any_length(container: StorageContainer, engine: EngineSite, size: int) -> None:
    data = random_bytes(size)
    stored = files.upload(
        path=f"/iso/{size}.iso", container=container, stream=io.BytesIO(data), size_bytes=size, actor=ACTOR
    )
    assert b"".join(images.export_raw(stored.disk)) == data


def test_it_leaves_nothing_of_a_failed_upload(container: StorageContainer, engine: EngineSite) -> None:
    with pytest.raises(InvalidInput):
        files.upload(path="/a.iso", container=container, stream=io.BytesIO(b"x"), size_bytes=9, actor=ACTOR)
    assert not StoredFile.objects.exists()
    assert not VirtualDisk.objects.exists()


def test_it_grows_but_never_shrinks_a_disk(make_vm: Callable[..., VM], engine: EngineSite) -> None:
    disk = make_vm().disks.get()
    disks.resize(disk, size_bytes=2 * MiB, actor=ACTOR)
    assert engine.engine.vdisk(str(disk.pk))["size_bytes"] == 2 * MiB
    with pytest.raises(InvalidInput, match="only grow"):
        disks.resize(disk, size_bytes=MiB, actor=ACTOR)


def test_it_moves_a_disk_with_its_bytes(make_vm: Callable[..., VM], engine: EngineSite) -> None:
    disk, other = make_vm("a").disks.get(), make_vm("b")
    with nbd(engine, disk) as client:
        client.write(0, b"x" * 4096)
        with pytest.raises(Conflict, match="in use"):
            disks.move(disk, owner=other, actor=ACTOR)
    moved = disks.move(disk, owner=other, actor=ACTOR)
    assert (moved.vm, moved.index) == (other, 1)
    assert b"".join(images.export_raw(moved))[:4096] == b"x" * 4096


def test_it_refuses_a_place_that_is_taken_and_a_foreign_bus(make_vm: Callable[..., VM]) -> None:
    vm = make_vm()
    for new in (NewDisk(MiB, index=0), NewDisk(MiB, bus="nvram"), NewDisk(0), NewDisk(1 << 60)):
        with pytest.raises(InvalidInput):
            disks.add(vm, new, actor=ACTOR)
    assert vm.disks.count() == 1


def test_it_deletes_a_vm_in_the_engine_too_but_not_a_protected_one(
    domain: ProtectionDomain, engine: EngineSite
) -> None:
    vm = VM.objects.get()
    with pytest.raises(Conflict, match="is protected by pd1"):
        vms.delete(vm, actor=ACTOR)
    keys = {str(key) for key in vm.disks.values_list("uuid", flat=True)}
    vms.delete(vm, even_if_protected=True, actor=ACTOR)
    assert not keys & {disk["vdisk"] for disk in engine.engine.vdisks()}


def test_it_refuses_to_delete_an_attached_group(
    make_vm: Callable[..., VM], make_group: Callable[..., VolumeGroup]
) -> None:
    group, vm = make_group(), make_vm()
    volume_groups.attach(group, vm, actor=ACTOR)
    with pytest.raises(Conflict, match="attached to vm1"):
        volume_groups.delete(group, actor=ACTOR)
    volume_groups.detach(group, vm, actor=ACTOR)
    volume_groups.delete(group, actor=ACTOR)


def test_it_protects_related_groups_and_whole_containers(
    make_vm: Callable[..., VM], make_group: Callable[..., VolumeGroup], container: StorageContainer
) -> None:
    first = domains.create(name="related", actor=ACTOR)
    vm, group = make_vm("a"), make_group("g")
    volume_groups.attach(group, vm, actor=ACTOR)
    rows = protection.protect(first, entities=[vm], related=True, actor=ACTOR)
    assert {row.name for row in rows} == {"a", "g"}
    make_vm("b")
    whole = domains.create(name="whole", actor=ACTOR)
    assert [row.name for row in protection.protect_container(whole, container=container, actor=ACTOR)] == ["b"]
    make_vm("later")
    assert {row.name for row in whole.entities.all()} == {"b", "later"}
    assert {row.group.name for row in whole.entities.all()} == {"b", "later"}


def test_it_makes_the_demo_content_once(site: object, engine: EngineSite, queue: Queue) -> None:
    for _ in range(2):
        call_command("demo_content", verbosity=0, stdout=io.StringIO())
    assert VM.objects.count() == 3
    assert VolumeGroup.objects.get().attachments.count() == 1
    assert sum(disk.size_bytes for disk in VirtualDisk.objects.all()) <= 200 * MiB
    assert b"".join(images.export_raw(StoredFile.objects.get().disk)) == pattern("iso", 16 * MiB)


def test_its_demo_disks_are_clean_file_systems(tmp_path: Path) -> None:
    image = make_image(tmp_path, "web01", 16 * MiB)
    check = subprocess.run(["/usr/sbin/e2fsck", "-fn", str(image)], capture_output=True, check=False)
    assert check.returncode == 0, check.stdout
