# SPDX-License-Identifier: Apache-2.0
"""Scrub, damage of the log and what `accept-loss` kept: in console and API, told by a real engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.urls import reverse

from dataprotection import models as dp
from dataprotection.services import disks, kept, phases
from prism.core.models import Alert, AuditRow
from replication.cerebro import data_health
from stargate.errors import StargateError
from stargate.nbd.link import NbdError
from tests.console.conftest import Rows
from tests.support.engine_site import EngineSite, wait_for

pytestmark = pytest.mark.django_db

BLOCK = 4096


def page(client: Client) -> str:
    answer = client.get(reverse("console:integrity"))
    assert answer.status_code == 200
    return str(answer.content.decode())


def told(client: Client) -> dict[str, Any]:
    answer = client.get("/api/v1/integrity/")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def test_scrub_now_reads_everything_and_is_recorded(operator: Client, served: Rows, engine: EngineSite) -> None:
    before = told(operator)
    assert before["log_damage"] is None
    answer = operator.post("/api/v1/integrity/scrub/")
    assert answer.status_code == 202, answer.content
    assert answer.json()["asked_left"] == answer.json()["parts"] > 0
    wait_for(lambda: told(operator)["asked_left"] == 0, "the scrub")
    after = told(operator)
    assert after["last_pass_at"] not in (None, before["last_pass_at"])
    assert after["oldest_unchecked_seconds"] < 60
    assert (after["damaged"], after["findings"], after["unfoldable"]) == (0, [], 0)
    assert "Nothing is known to be damaged" in page(operator)
    assert operator.post(reverse("console:scrub")).status_code == 302
    rows = AuditRow.objects.filter(verb="scrub.start", outcome="ok", object_name="site1")
    assert set(rows.values_list("source", flat=True)) == {"api", "console"}


def test_a_reader_sees_the_figures_and_orders_nothing(reader: Client, served: Rows, engine: EngineSite) -> None:
    text = page(reader)
    assert "Oldest unchecked" in text
    assert "Scrub now" not in text
    assert told(reader)["healed"] >= 0
    assert reader.post(reverse("console:scrub")).status_code == 403
    assert reader.post("/api/v1/integrity/scrub/").status_code == 403
    assert not AuditRow.objects.filter(verb="scrub.start").exists()


def test_findings_are_shown_as_text(admin: Client, rows: Rows, engine: EngineSite, monkeypatch: Any) -> None:
    health = {
        "damaged": 30, "healed": 2, "findings": ["<b>region 7</b>"], "unfoldable": ["e1"], "last_pass_at": 1.7e9,
        "oldest_unchecked_seconds": 90_000.0, "parts": 8, "asked_left": 2,
    }  # fmt: skip
    monkeypatch.setattr("stargate.control.client.Engine.health", lambda _self: health)
    text = page(admin)
    assert "&lt;b&gt;region 7&lt;/b&gt;" in text
    assert "The first 1 of 30." in text
    assert "2 of 8 parts are left" in text
    assert "1 d 1 h ago" in text
    assert 'value="75"' in text


def test_the_page_and_the_api_say_that_the_engine_is_away(
    admin: Client, rows: Rows, tmp_path: Path, settings: Any
) -> None:
    settings.PRISM_RUN_DIR = tmp_path
    assert "does not answer" in page(admin)
    assert admin.get("/api/v1/integrity/").status_code == 503
    answer = admin.post(reverse("console:scrub"), follow=True)
    assert "does not answer" in answer.content.decode()
    assert AuditRow.objects.filter(verb="scrub.start", outcome="failed").exists()


# -- a damaged log, on real files -------------------------------------------------------------------------------------


@pytest.fixture
def own(settings: Any, rows: Rows) -> Iterator[EngineSite]:
    """An engine of the test's own, for its files are damaged."""
    folder = Path(tempfile.mkdtemp(prefix="co-", dir="/tmp"))
    site = EngineSite(folder)
    settings.PRISM_RUN_DIR = folder / "run"
    try:
        yield site.start()
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)


def word(text: bytes) -> bytes:
    return text * (BLOCK // len(text))


def damage(site: EngineSite, export: str) -> None:
    """Writes "more", then "lost" and "late" that no store drains; the table of "lost" rots while the engine is down."""
    with site.open(export) as client:
        client.write(0, word(b"more"), fua=True)
    wait_for(site.drained, "the drain")
    site.kill("store")
    with site.open(export) as client:
        for text in (b"lost", b"late"):
            client.write(0, word(text), fua=True)
    site.kill("front")
    (place,) = [
        (path, at)
        for path in sorted((site.folder / "stargate" / "oplog").glob("slot-*"))
        if (at := path.read_bytes().find(word(b"lost"))) >= 0
    ]
    with place[0].open("r+b") as file:
        file.seek(place[1] - 8)
        byte = file.read(1)
        file.seek(place[1] - 8)
        file.write(bytes([byte[0] ^ 1]))


def accept_loss(site: EngineSite, *options: str) -> None:
    site.stop()
    command = [sys.executable, "-m", "stargate", "accept-loss", "--data", str(site.folder), "--yes", *options]
    subprocess.run(command, check=True, capture_output=True)
    site.start()


def test_a_damaged_log_is_explained_and_what_was_kept_is_listed_and_brought_back(
    operator: Client, own: EngineSite, rows: Rows
) -> None:
    disk = rows.vm.disks.get()
    disks.create_in_engine(disk)
    damage(own, disk.export_name)
    own.start()
    assert told(operator)["log_damage"]["heads_lost"] is True
    assert all(part in page(operator) for part in ("Cause", "Effect", "Next step", "accept-loss"))
    assert data_health.look_at_log()
    kept.note()
    assert not Alert.objects.filter(kind="loss_accepted").exists()

    accept_loss(own)
    assert told(operator)["log_damage"] is None
    assert not data_health.look_at_log()
    kept.note()
    assert "1 disk is still down" in Alert.objects.get(kind="loss_accepted", resolved_at=None).message
    (state,) = operator.get("/api/v1/kept-states/").json()
    assert [(found["uuid"], found["can_come_back"]) for found in state["disks"]] == [(str(disk.pk), True)]
    assert state["position"] > 0
    text = page(operator)
    assert state["disks"][0]["nbd_uri"] in text
    back, away = (reverse(f"console:kept-{order}", args=[state["uuid"]]) for order in ("bring-back", "delete"))
    assert back in text
    assert away in text
    with own.open_snapshot(state["uuid"], str(disk.pk)) as client:
        assert client.read(0, BLOCK) == word(b"more")
    with pytest.raises(NbdError), own.open(disk.export_name):
        pass

    assert disk.export_name in operator.get(back).content.decode()
    assert operator.post(back).status_code == 302
    assert "0 disks are still down" in Alert.objects.get(kind="loss_accepted", resolved_at=None).message
    with own.open(disk.export_name) as client:
        assert client.read(0, BLOCK) == word(b"more")
        client.write(0, word(b"new."))
    again = operator.post(back)
    assert again.status_code == 422, "it is served: nothing is overwritten"
    with own.open(disk.export_name) as client:
        assert client.read(0, BLOCK) == word(b"new.")
    assert operator.post(away).status_code == 302
    assert operator.get("/api/v1/kept-states/").json() == []
    assert not Alert.objects.filter(kind="loss_accepted", resolved_at=None).exists()
    verbs = AuditRow.objects.filter(object_type="kept_snapshot").values_list("verb", "outcome")
    assert set(verbs) == {
        ("kept.bring_back", "ok"), ("kept.bring_back", "refused"), ("kept.delete", "ok"),
    }  # fmt: skip


# -- a kept state, made as the order makes it -------------------------------------------------------------------------


@contextmanager
def elsewhere(domain: dp.ProtectionDomain) -> Iterator[None]:
    """Somebody else's task is at work on the domain."""
    session = connections["default"].copy()
    with session.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [phases._key(domain.uuid)])
    try:
        yield
    finally:
        session.close()


@pytest.fixture
def state(served: Rows, engine: EngineSite) -> Iterator[uuid.UUID]:
    """Of the VM's disk, which is down, the group's, which is served, and one that is not in the inventory."""
    disk, beside = served.vm.disks.get(), served.group.disks.get()
    gone = engine.disk(BLOCK)
    key = uuid.uuid4()
    members = [str(disk.pk), str(beside.pk), gone]
    engine.engine.snapshot_create(str(key), members, manifest={"position": 7}, owner=kept.OWNER)
    engine.engine.vdisk_delete(gone)
    engine.engine.set_role([str(disk.pk)], "down", reason="a part of the log was lost")
    yield key
    engine.engine.snapshot_delete(str(key))


def test_only_disks_that_are_down_come_back(
    operator: Client, served: Rows, engine: EngineSite, state: uuid.UUID
) -> None:
    disk, beside = served.vm.disks.get(), served.group.disks.get()
    with engine.open(beside.export_name) as client:
        client.write(0, word(b"mine"))
    text = page(operator)
    assert "not in the inventory" in text
    assert "deleted" in text
    answer = operator.post(f"/api/v1/kept-states/{state}/bring-back/")
    assert answer.json() == {"disks": [str(disk.pk)]}
    with engine.open(beside.export_name) as client:
        assert client.read(0, BLOCK) == word(b"mine")


def test_disks_of_a_domain_that_is_not_active_or_busy_stay_down(
    operator: Client, served: Rows, engine: EngineSite, state: uuid.UUID
) -> None:
    url = f"/api/v1/kept-states/{state}/bring-back/"
    dp.ProtectionDomain.objects.filter(pk=served.domain.pk).update(phase="ACTIVATING")
    refused = operator.post(url)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not_active")
    dp.ProtectionDomain.objects.filter(pk=served.domain.pk).update(phase="ACTIVE")
    with elsewhere(served.domain):
        refused = operator.post(url)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "domain_busy")
    assert engine.engine.vdisk(str(served.vm.disks.get().pk))["role"] == "down"
    assert operator.post(url).status_code == 200


def test_no_other_snapshot_passes_for_a_kept_one(
    operator: Client, reader: Client, served: Rows, engine: EngineSite, state: uuid.UUID
) -> None:
    disk = str(served.vm.disks.get().pk)
    other = engine.snapshot(disk)
    assert [row["uuid"] for row in operator.get("/api/v1/kept-states/").json()] == [str(state)]
    for key in (other, uuid.uuid4(), "x"):
        assert operator.post(f"/api/v1/kept-states/{key}/bring-back/").status_code == 404
        assert operator.delete(f"/api/v1/kept-states/{key}/").status_code == 404
    assert engine.engine.snapshot(other)["snapshot"] == other
    assert operator.get(reverse("console:kept-delete", args=[other])).status_code == 404
    assert reader.delete(f"/api/v1/kept-states/{state}/").status_code == 403
    assert operator.delete(f"/api/v1/kept-states/{state}/").status_code == 204
    with pytest.raises(StargateError):
        engine.engine.snapshot(str(state))
