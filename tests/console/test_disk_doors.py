# SPDX-License-Identifier: Apache-2.0
"""Write-through and "waits to be re-opened", the same in console and API, told by a real engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from dataprotection.models import VM, VirtualDisk
from dataprotection.services import disk_states, disks
from prism.core.models import AuditRow
from stargate.control.client import Engine
from stargate.errors import StargateError
from stargate.nbd.link import NbdError
from tests.console.conftest import Rows
from tests.support.engine_site import EngineSite

pytestmark = pytest.mark.django_db

RUN = (
    "import pathlib, runpy, sys; from stargate.fs import boot; boot._BOOT_ID = pathlib.Path(sys.argv.pop(1)); "
    "runpy.run_module('stargate', run_name='__main__')"
)


class Mortal(EngineSite):
    """Its machine can die: the front reads the boot id from a file of the test."""

    def _spawn(self, part: str, args: list[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", RUN, str(self.folder / "boot_id"), part, "--data", str(self.folder)]
        with (self.folder / f"{part}.log").open("ab") as log:
            return subprocess.Popen([*command, "--listen", self.address, *args], stdout=log, stderr=log)

    def boot(self) -> None:
        (self.folder / "boot_id").write_text(str(uuid.uuid4()))
        self.start()


@pytest.fixture
def mortal(settings: Any) -> Iterator[Mortal]:
    folder = Path(tempfile.mkdtemp(prefix="co-", dir="/tmp"))
    site = Mortal(folder)
    settings.PRISM_RUN_DIR = folder / "run"
    try:
        site.boot()
        yield site
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)


def make_vm(client: Client, rows: Rows, name: str, **disk: Any) -> VM:
    body = {"name": name, "container": rows.container.name, "disks": [{"size_bytes": 1 << 20, **disk}]}
    answer = client.post("/api/v1/vms/", body, content_type="application/json")
    assert answer.status_code == 201, answer.content
    return VM.objects.get(pk=answer.json()["uuid"])


def shown(client: Client, disk: VirtualDisk) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api/v1/disks/{disk.pk}/").json()
    return found


def die_while_writing(site: Mortal, export: str) -> None:
    """Kill the front under a client that has just been answered and keeps writing."""
    answered = threading.Event()

    def write() -> None:
        with suppress(NbdError, OSError), site.open(export) as client:
            while True:
                client.write(0, b"x" * 4096)
                answered.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert answered.wait(30)
    site.kill("front")
    writer.join(30)
    site.stop()


def test_a_disk_that_waits_to_be_re_opened_says_so_in_both_doors_until_it_is(
    operator: Client, rows: Rows, mortal: Mortal
) -> None:
    vm, careful = make_vm(operator, rows, "lost"), make_vm(operator, rows, "careful", write_through=True)
    disk, safe = vm.disks.get(), careful.disks.get()
    assert shown(operator, disk)["reopen"] is False
    die_while_writing(mortal, disk.export_name)
    mortal.boot()
    told = shown(operator, disk)
    assert (told["reopen"], told["write_through"]) == (True, False)
    assert "machine died" in told["reason"]
    assert (shown(operator, safe)["reopen"], shown(operator, safe)["write_through"]) == (False, True)
    page = operator.get(reverse("dp:vm", args=[vm.pk])).content.decode()
    assert reverse("dp:disk-reopen", args=[disk.pk]) in page
    assert (
        reverse("dp:disk-reopen", args=[safe.pk])
        not in operator.get(reverse("dp:vm", args=[careful.pk])).content.decode()
    )
    answer = operator.post(f"/api/v1/disks/{disk.pk}/reopen/")
    assert (answer.status_code, answer.json()["reopen"], answer.json()["reason"]) == (200, False, "")
    assert AuditRow.objects.filter(verb="disk.reopen", outcome="ok", source="api").exists()
    with mortal.open(disk.export_name) as client:
        client.write(0, b"y" * 4096)


def test_write_through_is_set_by_either_door_and_seen_in_both(operator: Client, rows: Rows, engine: EngineSite) -> None:
    vm = make_vm(operator, rows, "both")
    disk = vm.disks.get()
    url = f"/api/v1/disks/{disk.pk}/write-through/"
    form = reverse("dp:disk-write-through", args=[disk.pk])
    assert operator.get(form).context["form"].initial["enabled"] is False
    set_ = operator.post(url, {"enabled": True}, content_type="application/json").json()
    assert set_["write_through"] is True
    assert engine.engine.vdisk(str(disk.pk))["write_through"]
    assert operator.get(form).context["form"].initial["enabled"] is True
    operator.post(form, {})
    assert shown(operator, disk)["write_through"] is False
    assert operator.get(f"/api/v1/vms/{vm.pk}/").json()["disks"][0]["write_through"] is False
    sources = AuditRow.objects.filter(verb="disk.write_through", outcome="ok").values_list("source", flat=True)
    assert set(sources) == {"api", "console"}


def test_disks_are_made_write_through_with_their_vm_or_group(operator: Client, rows: Rows, engine: EngineSite) -> None:
    vm = make_vm(operator, rows, "made", write_through=True)
    assert engine.engine.vdisk(str(vm.disks.get().pk))["write_through"]
    body = {"name": "made", "container": "default", "disks": [{"size_bytes": 4096, "write_through": True}]}
    group = operator.post("/api/v1/volume-groups/", body, content_type="application/json").json()
    assert group["disks"][0]["write_through"] is True
    more = operator.post(
        f"/api/v1/vms/{vm.pk}/disks/", {"size_bytes": 4096, "write_through": True}, content_type="application/json"
    )
    assert more.json()["write_through"] is True


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many disks each question to the engine was about."""
    found: list[int] = []
    real: Callable[..., Any] = Engine.vdisks

    def counted(self: Engine, only: list[str]) -> Any:
        found.append(len(only))
        return real(self, only)

    monkeypatch.setattr(Engine, "vdisks", counted)
    return found


@pytest.mark.parametrize("kind", ["vms", "volume-groups", "files", "disks"])
def test_a_page_of_the_api_asks_the_engine_once(operator: Client, served: Rows, kind: str, asked: list[int]) -> None:
    for number in range(3):
        vm = VM.objects.create(name=f"more{number}", container=served.container)
        disks.create_in_engine(VirtualDisk.objects.create(size_bytes=4096, vm=vm, export_name=f"more-{uuid.uuid4()}"))
    asked.clear()
    listed = operator.get(f"/api/v1/{kind}/").json()["results"]
    found = {
        "vms": [disk for row in listed for disk in row.get("disks", ())],
        "volume-groups": [disk for row in listed for disk in row.get("disks", ())],
        "files": [row.get("disk") for row in listed],
        "disks": listed,
    }[kind]
    assert found
    assert all(disk["role"] == "active" for disk in found)
    assert asked == [len(found)]


def test_states_are_asked_for_in_bounded_parts(
    operator: Client, served: Rows, monkeypatch: pytest.MonkeyPatch, asked: list[int]
) -> None:
    monkeypatch.setattr(disk_states, "AT_ONCE", 2)
    keys = list(VirtualDisk.objects.values_list("pk", flat=True))
    assert len(keys) == 3
    assert set(disk_states.states_of([*keys, uuid.uuid4()])) == set(keys)
    assert asked == [2, 2]


def test_rows_are_shown_without_states_while_the_engine_is_away(
    operator: Client, rows: Rows, tmp_path: Path, settings: Any
) -> None:
    settings.PRISM_RUN_DIR = tmp_path
    (vm,) = [row for row in operator.get("/api/v1/vms/").json()["results"] if row["disks"]]
    assert {vm["disks"][0][name] for name in ("role", "reason", "reopen", "write_through")} == {None}
    page = operator.get(reverse("dp:vm", args=[rows.vm.pk])).content.decode()
    assert "the block engine did not answer" in page


def test_a_disk_that_the_engine_lost_is_told_apart_from_a_silent_engine(
    operator: Client, rows: Rows, engine: EngineSite
) -> None:
    with pytest.raises(StargateError):
        engine.engine.vdisk(str(rows.vm.disks.get().pk))
    page = operator.get(reverse("dp:vm", args=[rows.vm.pk])).content.decode()
    assert "the engine does not have it" in page
    assert "did not answer" not in page


def test_an_order_that_was_overtaken_is_refused_and_does_nothing(
    operator: Client, rows: Rows, engine: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody takes the place between the check and the row."""
    real = disks._place

    def late(owner: Any, bus: str, index: int | None) -> int:
        found = real(owner, bus, index)
        VirtualDisk.objects.create(size_bytes=4096, vm=owner, bus=bus, index=found, export_name=f"x-{uuid.uuid4()}")
        return found

    monkeypatch.setattr(disks, "_place", late)
    before = len(engine.engine.vdisks())
    answer = operator.post(f"/api/v1/vms/{rows.vm.pk}/disks/", {"size_bytes": 4096}, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "overtaken")
    page = operator.post(reverse("dp:vm-disk-new", args=[rows.vm.pk]), {"size": "1 MiB", "bus": "scsi"})
    assert page.status_code == 422
    assert "Another order changed" in page.content.decode()
    assert set(AuditRow.objects.filter(verb="disk.add").values_list("outcome", flat=True)) == {"refused"}
    assert (rows.vm.disks.count(), len(engine.engine.vdisks())) == (1, before)
