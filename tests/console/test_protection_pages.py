# SPDX-License-Identifier: Apache-2.0
"""Orders of the finer kind: custom times, whole containers, suspended schedules, cancelled snapshots, group wishes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from dataprotection.models import ConsistencyGroup, OneTimeSnapshot
from prism.core.models import Alert
from replication.models import Replication
from tests.console.conftest import Rows, make_domain, make_replication, make_site, make_snapshot

pytestmark = pytest.mark.usefixtures("no_workers")


@pytest.fixture
def no_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is asked for its gates."""
    from dataprotection.services import gating

    monkeypatch.setattr(gating, "refresh", lambda domain: None)
    monkeypatch.setattr(gating, "forget", lambda domain: None)


def _take(client: Client, rows: Rows, **fields: str) -> tuple[int, str]:
    answer = client.post(reverse("dp:take-snapshot", args=[rows.domain.pk]), {"local": "on", **fields})
    return answer.status_code, answer.content.decode()


def test_it_takes_a_snapshot_at_a_custom_time_of_the_users_zone(operator: Client, rows: Rows) -> None:
    operator.cookies["prism_zone"] = "Asia/Tokyo"
    when = {"start": "custom", "start_at": "2199-01-01T09:00"}
    kept = {"retention": "custom", "keep_count": "3", "keep_unit": "604800"}
    status, _ = _take(operator, rows, **when, **kept)
    ordered = OneTimeSnapshot.objects.get()
    assert status == 302
    assert ordered.run_at == datetime(2199, 1, 1, 9, tzinfo=ZoneInfo("Asia/Tokyo")) == datetime(2199, 1, 1, tzinfo=UTC)
    assert ordered.retention_seconds == 3 * 604_800


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"start": "custom"}, "a time that lies ahead"),
        ({"start": "custom", "start_at": "2001-01-01T00:00"}, "a time that lies ahead"),
        ({"start": "custom", "start_at": "soon"}, "Enter a valid date and time"),
        ({"retention": "custom"}, "how long it is kept"),
        ({"retention": "custom", "keep_count": "0"}, "greater than or equal to 1"),
        ({"retention": "custom", "keep_count": "100000", "keep_unit": "604800"}, "one minute to 100 years"),
        ({"retention": "custom", "keep_count": "1", "keep_unit": "7"}, "Select a valid choice"),
    ],
)
def test_it_refuses_a_custom_time_that_cannot_be(
    operator: Client, rows: Rows, fields: dict[str, str], said: str
) -> None:
    status, text = _take(operator, rows, **fields)
    assert status == 422
    assert said in text
    assert not OneTimeSnapshot.objects.exists()


def test_it_ignores_custom_fields_while_custom_is_not_chosen(operator: Client, rows: Rows) -> None:
    assert _take(operator, rows, start_at="2001-01-01T00:00", keep_count="5")[0] == 302
    ordered = OneTimeSnapshot.objects.get()
    assert ordered.retention_seconds is None
    assert ordered.task is not None


def test_it_puts_the_one_remote_site_below_its_heading(operator: Client, rows: Rows) -> None:
    text = operator.get(reverse("dp:take-snapshot", args=[rows.domain.pk])).content.decode()
    assert '<span class="label" id="id_sites-label">REMOTE SITES</span>' in text


@pytest.mark.usefixtures("no_gate")
def test_it_protects_a_whole_container(operator: Client, rows: Rows) -> None:
    domain = make_domain("all")
    url = reverse("dp:protect-container", args=[domain.pk])
    assert operator.post(url, {}).status_code == 422
    assert operator.post(url, {"container": rows.container.pk}).status_code == 302
    domain.refresh_from_db()
    assert domain.whole_container == rows.container
    # app01 stays where it is protected already.
    assert set(domain.entities.values_list("name", flat=True)) == {"spare", "data", "/iso/debian.iso"}
    assert "whole container default" in operator.get(reverse("dp:wizard-entities", args=[domain.pk])).content.decode()


@pytest.mark.usefixtures("no_gate")
def test_it_refuses_a_container_that_another_domain_protects(operator: Client, rows: Rows) -> None:
    rows.domain.whole_container = rows.container
    rows.domain.save()
    domain = make_domain("all")
    answer = operator.post(reverse("dp:protect-container", args=[domain.pk]), {"container": rows.container.pk})
    assert answer.status_code == 422
    assert "is protected by fooPD" in answer.content.decode()


def test_it_suspends_and_resumes_a_schedule(operator: Client, rows: Rows) -> None:
    url, tab = reverse("dp:schedule-suspend", args=[rows.schedule.pk]), _tab(rows, "schedules")
    operator.post(url, {"suspended": "1"})
    rows.schedule.refresh_from_db()
    assert rows.schedule.suspended
    assert "Resume" in operator.get(tab).content.decode()
    operator.post(url, {"suspended": "0"})
    rows.schedule.refresh_from_db()
    assert not rows.schedule.suspended
    assert rows.schedule.next_due_at > timezone.now()


def test_it_cancels_a_snapshot_that_lies_ahead_and_no_other(operator: Client, rows: Rows) -> None:
    _take(operator, rows, start="3600")
    one = OneTimeSnapshot.objects.get()
    url = reverse("dp:one-time-cancel", args=[one.pk])
    assert url in operator.get(_tab(rows, "schedules")).content.decode()
    operator.post(url)
    one.refresh_from_db()
    assert one.state == "CANCELLED"
    again = operator.post(url, follow=True)
    assert "is being taken or was taken" in again.content.decode()


def test_it_changes_the_wish_of_a_group_of_one_vm(operator: Client, rows: Rows) -> None:
    group = rows.domain.groups.get()
    url = reverse("dp:group", args=[group.pk])
    assert operator.post(url, {"app_consistent": "on"}).status_code == 302
    assert ConsistencyGroup.objects.get(pk=group.pk).app_consistent
    assert operator.post(url, {}).status_code == 302
    assert not ConsistencyGroup.objects.get(pk=group.pk).app_consistent


def test_it_refuses_the_wish_of_a_group_of_several(operator: Client, rows: Rows) -> None:
    group = rows.domain.groups.get()
    rows.domain.entities.create(group=group, entity_type="vm", name="spare", vm=rows.free_vm)
    answer = operator.post(reverse("dp:group", args=[group.pk]), {"app_consistent": "on"})
    assert answer.status_code == 422
    assert "one VM" in answer.content.decode()
    assert not ConsistencyGroup.objects.get(pk=group.pk).app_consistent


def test_it_asks_only_for_prefixes_of_kinds_in_the_snapshot(operator: Client, rows: Rows) -> None:
    url = reverse("dp:restore", args=[rows.snapshot.pk])
    text = operator.get(url).content.decode()
    assert "VM Name Prefix" in text
    assert "File Path Prefix" not in text
    missing = operator.post(url, {"entities": [str(rows.vm.pk)], "how": "create", "vm_prefix": ""})
    assert missing.status_code == 422
    assert "New entities need a prefix" in missing.content.decode()


def test_it_says_in_the_dialog_why_a_domain_cannot_be_deleted_yet(operator: Client, rows: Rows) -> None:
    text = operator.get(reverse("dp:delete", args=[rows.domain.pk])).content.decode()
    assert "1 schedule and 1 local snapshot" in text
    assert "to confirm" not in text


@pytest.mark.usefixtures("no_gate")
def test_it_resolves_the_alerts_of_a_deleted_domain(operator: Client, rows: Rows) -> None:
    from prism.core.services import alerts

    domain = make_domain("old")
    for about in (domain, rows.domain):
        alerts.raise_alert(
            "snapshot_failure", "x", object_type="protection_domain", object_name=about.name, object_id=about.pk
        )
    operator.post(reverse("dp:delete", args=[domain.pk]), {"confirm": "old"})
    assert list(Alert.objects.filter(kind="snapshot_failure", resolved_at=None).values_list("object_name")) == [
        ("fooPD",)
    ]


def test_it_lists_points_to_activate_from_in_the_users_zone(operator: Client, rows: Rows) -> None:
    operator.cookies["prism_zone"] = "Asia/Tokyo"
    domain = make_domain("moved", mode="inactive", phase="INACTIVE")
    at = datetime(2026, 1, 1, 20, 0, 0, tzinfo=UTC)
    make_snapshot(domain, 7, rows.vm, created_at=at)
    assert "7, 2026-01-02 05:00:00" in operator.get(reverse("dp:activate", args=[domain.pk])).content.decode()


def test_it_calls_notes_no_problems(admin: Client, rows: Rows) -> None:
    Alert.objects.update(severity="info")
    text = admin.get("/").content.decode()
    assert "No open problems" in text
    assert "1 note" in text


def test_it_downloads_only_disks_of_the_snapshot_and_only_for_operators(
    operator: Client, reader: Client, rows: Rows
) -> None:
    page = reverse("dp:snapshot", args=[rows.snapshot.pk])
    inside = rows.snapshot.manifest["entities"][0]["disks"][0]["uuid"]
    url = reverse("dp:snapshot-disk", args=[rows.snapshot.pk, inside])
    assert url in operator.get(page).content.decode()
    assert url not in reader.get(page).content.decode()
    assert reader.get(url).status_code == 403
    assert operator.get(reverse("dp:snapshot-disk", args=[rows.snapshot.pk, uuid.uuid4()])).status_code == 404


def _tab(rows: Rows, name: str) -> str:
    return reverse("dp:domain", args=[rows.domain.pk]) + f"?tab={name}"


def test_it_counts_in_the_overview_what_is_and_what_is_not_protected(reader: Client, rows: Rows) -> None:
    text = reader.get(reverse("dp:overview")).content.decode()
    assert "3 unprotected" in text
    assert '<span class="figure">1</span> protected' in text
    assert "TM3" in text
    assert "It happened." in text


def test_it_asks_the_database_the_same_number_of_times_however_much_there_is(
    reader: Client, rows: Rows, django_assert_max_num_queries: Callable[[int], AbstractContextManager[object]]
) -> None:
    for number in range(20):
        make_snapshot(make_domain(f"tier-{number}"), number, rows.vm)
        make_site(f"site-{number}")
    with django_assert_max_num_queries(20):
        reader.get(reverse("dp:overview"))


def test_it_calls_no_point_recoverable_that_the_engine_or_the_other_site_may_not_have(
    reader: Client, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataprotection import selectors

    hour_ago = timezone.now() - timedelta(hours=1)
    kept = {"state": "SUCCEEDED", "direction": "out", "retention_seconds": 60, "finished_at": hour_ago}
    Replication.objects.filter(pk=rows.replication.pk).update(**kept)
    monkeypatch.setattr(selectors.manifest, "read", lambda raw: SimpleNamespace(entities=[_entry(rows)]))
    url = reverse("dp:recovery", args=[rows.snapshot.pk])
    text = reader.get(url).content.decode()
    assert "The block engine does not have it" in text
    assert "retention there has ended" not in text  # the newest one that the site has stays
    newer = make_snapshot(rows.domain, 1, rows.vm)
    make_replication(rows.domain, newer, rows.site, **kept)
    assert "retention there has ended" in reader.get(url).content.decode()


def _entry(rows: Rows) -> SimpleNamespace:
    return SimpleNamespace(uuid=rows.vm.pk, name="app01", type="vm", disks=[])
