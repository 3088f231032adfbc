# SPDX-License-Identifier: Apache-2.0
"""Inventory through its forms, on a real engine: disks are served, files come back byte for byte."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from dataprotection.models import VM, StoredFile, VolumeGroup
from prism.core.models import AuditRow
from tests.console.conftest import Rows
from tests.support.engine_site import EngineSite

pytestmark = pytest.mark.usefixtures("no_workers")
MiB = 1 << 20


def _make_vm(client: Client, rows: Rows, name: str) -> VM:
    sent = {
        "name": name,
        "container": rows.container.pk,
        "vcpus": "2",
        "memory": "2 GiB",
        "disk": "8 MiB",
        "network": "prod",
    }
    assert client.post(reverse("dp:vm-new"), sent).status_code == 302
    return VM.objects.get(name=name)


def test_it_creates_a_vm_and_shows_the_address_of_its_disk(operator: Client, rows: Rows, engine: EngineSite) -> None:
    vm = _make_vm(operator, rows, "console-vm")
    disk = vm.disks.get()
    with engine.open(disk.export_name) as writer:
        writer.write(0, b"x" * 4096, fua=True)
        page = operator.get(reverse("dp:vm", args=[vm.pk])).content.decode()
    assert f"/{disk.export_name}" in page
    assert "nbd://" in page
    assert "writes" in page
    assert (disk.size_bytes, vm.nics.get().network, vm.memory_bytes) == (8 * MiB, "prod", 2 << 30)


def test_it_grows_a_disk_and_refuses_to_shrink_it(operator: Client, rows: Rows, engine: EngineSite) -> None:
    disk = _make_vm(operator, rows, "grow").disks.get()
    url = reverse("dp:disk-resize", args=[disk.pk])
    assert operator.post(url, {"size_bytes": "16 MiB"}).status_code == 302
    refused = operator.post(url, {"size_bytes": "4 MiB"})
    assert refused.status_code == 422
    assert "size_bytes" in refused.context["form"].errors
    disk.refresh_from_db()
    assert disk.size_bytes == 16 * MiB


def test_write_through_is_ordered_shown_and_kept(operator: Client, rows: Rows, engine: EngineSite) -> None:
    vm = _make_vm(operator, rows, "careful")
    disk = vm.disks.get()
    url = reverse("dp:disk-write-through", args=[disk.pk])
    assert operator.post(url, {"enabled": "on"}).status_code == 302
    assert engine.engine.vdisk(str(disk.pk))["write_through"]
    assert 'muted">write-through<' in operator.get(reverse("dp:vm", args=[vm.pk])).content.decode()
    with engine.open(disk.export_name) as writer:
        writer.write(0, b"w" * 4096)
        assert writer.read(0, 4096) == b"w" * 4096
    assert operator.post(url, {}).status_code == 302
    assert not engine.engine.vdisk(str(disk.pk))["write_through"]


def test_a_re_open_that_nothing_asks_for_is_refused_and_recorded(
    operator: Client, rows: Rows, engine: EngineSite
) -> None:
    disk = _make_vm(operator, rows, "calm").disks.get()
    assert operator.post(reverse("dp:disk-reopen", args=[disk.pk])).status_code == 422
    assert AuditRow.objects.get(verb="disk.reopen").outcome == "refused"


def test_it_moves_a_disk_from_a_vm_to_a_volume_group(operator: Client, rows: Rows, engine: EngineSite) -> None:
    disk = _make_vm(operator, rows, "from").disks.get()
    operator.post(reverse("dp:volume-group-new"), {"name": "to", "container": rows.container.pk})
    group = VolumeGroup.objects.get(name="to")
    operator.post(reverse("dp:disk-move", args=[disk.pk]), {"owner": f"vg:{group.pk}", "bus": "scsi"})
    assert list(group.disks.all()) == [disk]


def test_it_refuses_to_remove_a_disk_in_use(operator: Client, rows: Rows, engine: EngineSite) -> None:
    disk = _make_vm(operator, rows, "busy").disks.get()
    with engine.open(disk.export_name) as writer:
        writer.write(0, b"y" * 4096, fua=True)
        assert operator.post(reverse("dp:disk-remove", args=[disk.pk])).status_code == 422
    assert VM.objects.get(name="busy").disks.exists()


async def _collected(answer: Any) -> bytes:
    return b"".join([part async for part in answer.streaming_content])


def test_it_gives_an_uploaded_file_back_byte_for_byte(operator: Client, rows: Rows, engine: EngineSite) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    content = random.Random(seed).randbytes(3 * MiB + 12345)
    sent = {"path": "/iso/test.iso", "container": rows.container.pk, "content": SimpleUploadedFile("test.iso", content)}
    assert operator.post(reverse("dp:file-new"), sent).status_code == 302
    stored = StoredFile.objects.get(path="/iso/test.iso")
    answer = operator.get(reverse("dp:file-download", args=[stored.pk]))
    assert answer["Content-Length"] == str(len(content))
    assert asyncio.run(_collected(answer)) == content


def test_it_refuses_an_image_that_is_larger_than_the_disk(operator: Client, rows: Rows, engine: EngineSite) -> None:
    disk = _make_vm(operator, rows, "small").disks.get()
    image = SimpleUploadedFile("big.raw", b"z" * (9 * MiB))
    assert operator.post(reverse("dp:disk-import", args=[disk.pk]), {"image": image}).status_code == 422


def test_it_deletes_an_unprotected_vm_only(operator: Client, rows: Rows, engine: EngineSite) -> None:
    vm = _make_vm(operator, rows, "short-lived")
    assert operator.post(reverse("dp:vm-delete", args=[vm.pk])).status_code == 302
    assert not VM.objects.filter(pk=vm.pk).exists()
    assert operator.post(reverse("dp:vm-delete", args=[rows.vm.pk])).status_code == 422
    assert VM.objects.filter(pk=rows.vm.pk).exists()
