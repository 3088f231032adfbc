# SPDX-License-Identifier: Apache-2.0
"""Certificates of NBD clients through console and API, made by a real engine."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from dataprotection.web.inventory.connections import DiskLine
from prism.core.models import AuditRow
from tests.console.conftest import Rows
from tests.support.engine_site import EngineSite

pytestmark = pytest.mark.django_db


def test_it_makes_a_client_shows_it_once_and_revokes_it(operator: Client, rows: Rows, engine: EngineSite) -> None:
    name = f"kvm-{uuid.uuid4().hex[:8]}"
    answer = operator.post(reverse("console:nbd-client-new"), {"name": name, "days": "365"})
    key = answer.context["files"]["client-key.pem"]
    assert "BEGIN PRIVATE KEY" in key
    assert key.splitlines()[1] in answer.content.decode()
    listed = operator.get(reverse("console:nbd-clients")).content.decode()
    assert name in listed
    assert key.splitlines()[1] not in listed
    again = operator.post(reverse("console:nbd-client-new"), {"name": name, "days": "365"})
    assert again.status_code == 422
    operator.post(reverse("console:nbd-client-revoke", args=[name]))
    assert {c["state"] for c in engine.engine.nbd_client_list() if c["name"] == name} == {"revoked"}
    verbs = list(AuditRow.objects.filter(object_name=name).values_list("verb", "outcome"))
    assert {("nbd_client.issue", "ok"), ("nbd_client.revoke", "ok")} <= set(verbs)
    assert not any(key.splitlines()[1] in str(row.detail) for row in AuditRow.objects.all())


def test_the_api_makes_and_revokes_a_client(operator: Client, rows: Rows, engine: EngineSite) -> None:
    name = f"kvm.{uuid.uuid4().hex[:8]}"
    made: dict[str, Any] = operator.post("/api/v1/nbd-clients/", {"name": name}, content_type="application/json").json()
    assert set(made["files"]) == {"ca-cert.pem", "client-cert.pem", "client-key.pem"}
    assert made["state"] == "good"
    (listed,) = [c for c in operator.get("/api/v1/nbd-clients/").json() if c["name"] == name]
    assert "files" not in listed
    assert operator.delete(f"/api/v1/nbd-clients/{name}/").json()["state"] == "revoked"
    assert operator.delete(f"/api/v1/nbd-clients/{name}/").status_code == 404
    wrong = operator.post("/api/v1/nbd-clients/", {"name": "a b"}, content_type="application/json")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "invalid_input")


def test_a_reader_makes_none(reader: Client, rows: Rows, engine: EngineSite) -> None:
    before = len(engine.engine.nbd_client_list())
    assert reader.post(reverse("console:nbd-client-new"), {"name": "mine", "days": "30"}).status_code == 403
    assert len(engine.engine.nbd_client_list()) == before


def test_the_page_says_that_the_engine_is_away(reader: Client, rows: Rows, tmp_path: Any, settings: Any) -> None:
    settings.PRISM_RUN_DIR = tmp_path
    answer = reader.get(reverse("console:nbd-clients"))
    assert answer.status_code == 200
    assert "does not answer" in answer.content.decode()


def test_ready_lines_name_the_certificate_where_one_is_needed(rows: Rows) -> None:
    disk = rows.vm.disks.get()
    plain = DiskLine(disk, "nbd://127.0.0.1:10809/mail-scsi.0").commands
    assert "tls" not in plain
    assert "server.host=127.0.0.1,server.port=10809,export=mail-scsi.0" in plain
    secured = DiskLine(disk, "nbds://10.0.0.5:10809/mail-scsi.0").commands
    assert all("FOLDER" in line for line in secured.splitlines())
