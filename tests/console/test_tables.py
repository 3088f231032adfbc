# SPDX-License-Identifier: Apache-2.0
"""Tables: order, search, pages; and a number of queries that does not grow with the rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from dataprotection import models as dp
from prism.core.models import Alert, AuditRow, Event, Task
from tests.console.conftest import Rows, make_domain, make_replication, make_site, make_snapshot


def _more(rows: Rows, first: int, count: int) -> None:
    """`count` more of everything that lists show."""
    for number in range(first, first + count):
        vm = dp.VM.objects.create(name=f"vm{number}", container=rows.container)
        dp.VirtualDisk.objects.create(size_bytes=4096, vm=vm, export_name=f"vm{number}")
        group = dp.VolumeGroup.objects.create(name=f"vg{number}", container=rows.container)
        cg = dp.ConsistencyGroup.objects.create(domain=rows.domain, name=f"vm{number}")
        dp.ProtectedEntity.objects.create(domain=rows.domain, group=cg, entity_type="vm", name=vm.name, vm=vm)
        dp.VolumeGroupAttachment.objects.create(volume_group=group, vm=vm)
        file = dp.StoredFile.objects.create(path=f"/file{number}", container=rows.container)
        dp.VirtualDisk.objects.create(size_bytes=4096, stored_file=file, export_name=f"file{number}")
        domain, site = make_domain(f"pd{number}"), make_site(f"site{number}")
        schedule = dp.Schedule.objects.create(
            domain=domain, type="DAILY", every_nth=1, start_at=rows.schedule.start_at, next_due_at=None
        )
        dp.ScheduleRemote.objects.create(schedule=schedule, site=site)
        dp.ScheduleRemote.objects.create(schedule=rows.schedule, site=site)
        snapshot = make_snapshot(rows.domain, number, vm)
        make_replication(rows.domain, snapshot, site, state="SUCCEEDED")
        Task.objects.create(kind="k", actor="a")
        Alert.objects.create(kind="k", severity="info", title="t", message="m", dedup_key=str(number))
        Event.objects.create(kind="k", message="m", object_type="protection_domain", object_name="fooPD")
        AuditRow.objects.create(actor="a", source="api", verb="v", outcome="ok")
        dp.StorageContainer.objects.create(name=f"c{number}")


@pytest.fixture
def count(admin: Client) -> Callable[[str], int]:
    def queries(url: str) -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert admin.get(url).status_code == 200
        return len(captured)

    return queries


def test_it_asks_the_same_number_of_queries_for_few_and_many_rows(rows: Rows, count: Callable[[str], int]) -> None:
    domain = reverse("dp:domain", args=[rows.domain.pk])
    names = ["console:home", "console:tasks", "console:alerts", "console:events", "console:audit", "dp:domains",
             "dp:vms", "dp:volume-groups", "dp:files", "dp:containers", "rep:sites"]  # fmt: skip
    urls = [reverse(name) for name in names]
    tabs = ["replications", "entities", "schedules", "timeline", "local", "remote", "metrics", "alerts", "events"]
    urls += [f"{domain}?tab={tab}" for tab in tabs]
    urls += [
        reverse("dp:wizard-entities", args=[rows.domain.pk]),
        reverse("dp:wizard-schedules", args=[rows.domain.pk]),
    ]
    _more(rows, 1, 2)
    count(urls[0])  # the first request of a session notes it
    few = {url: count(url) for url in urls}
    _more(rows, 10, 15)
    many = {url: count(url) for url in urls}
    assert many == few
    assert max(many.values()) <= 30


def _ids(answer: object) -> list[str]:
    return [row.display_id for row in answer.context["table"].rows]  # type: ignore[attr-defined]


def test_it_lists_snapshots_newest_first_and_sorts_both_ways(admin: Client, rows: Rows) -> None:
    for number in (1, 2, 3):
        make_snapshot(rows.domain, number, rows.vm)
    url = reverse("dp:domain", args=[rows.domain.pk]) + "?tab=local"
    assert _ids(admin.get(url)) == ["1", "2", "3", "54404"]
    assert _ids(admin.get(url + "&t_sort=-id")) == ["54404", "3", "2", "1"]
    assert _ids(admin.get(url + "&t_q=544")) == ["54404"]
    assert "4 Snapshots" in admin.get(url).content.decode()


def test_it_shows_expired_snapshots_only_when_asked(admin: Client, rows: Rows) -> None:
    make_snapshot(rows.domain, 7, rows.vm, state="EXPIRED")
    make_snapshot(rows.domain, 8, rows.vm, hidden_base=True)
    url = reverse("dp:domain", args=[rows.domain.pk]) + "?tab=local"
    assert _ids(admin.get(url)) == ["54404"]
    assert set(_ids(admin.get(url + "&expired=1"))) == {"54404", "7"}


def test_it_pages_and_keeps_the_rest_of_the_address(admin: Client, rows: Rows) -> None:
    for number in range(1, 31):
        make_snapshot(rows.domain, number, rows.vm)
    url = reverse("dp:domain", args=[rows.domain.pk]) + "?tab=local&t_sort=id"
    table = admin.get(url).context["table"]
    assert (len(table.rows), table.count, table.previous_link) == (20, 31, None)
    assert table.next_link == "?tab=local&t_sort=id&t_page=2"
    assert len(admin.get(reverse("dp:domain", args=[rows.domain.pk]) + table.next_link).context["table"].rows) == 11


def test_it_writes_unknown_space_as_processing(admin: Client, rows: Rows) -> None:
    url = reverse("dp:domain", args=[rows.domain.pk])
    assert "Processing" in admin.get(url).content.decode()
    dp.Snapshot.objects.update(reclaimable_bytes=1536)
    assert "1.5 KiB" in admin.get(url).content.decode()


def test_it_says_from_when_each_domain_can_be_recovered(admin: Client, rows: Rows) -> None:
    page = admin.get("/").content.decode()
    assert "nothing replicated yet" in page
    rows.replication.__class__.objects.update(state="SUCCEEDED")
    page = admin.get("/").content.decode()
    assert "recoverable to <strong>TM3</strong>, newest point" in page


def test_it_shows_the_home_page_with_a_silent_engine(admin: Client, rows: Rows) -> None:
    assert "The block engine did not answer" in admin.get("/").content.decode()


def test_every_domain_row_says_what_it_can_be_recovered_to(reader: Client, rows: Rows) -> None:
    make_domain("bare")
    text = reader.get(reverse("dp:domains")).content.decode()
    assert "no restore point here" in text  # bare
    assert "recoverable here to <time" in text
    assert "nothing on TM3 yet" in text
    make_replication(rows.domain, make_snapshot(rows.domain, 7, rows.vm), rows.site, state="SUCCEEDED")
    text = reader.get(reverse("dp:domains")).content.decode()
    assert "on <b>TM3</b> to <time" in text
    assert "nothing on TM3 yet" not in text


def test_a_point_that_has_expired_is_nothing_to_recover_to(reader: Client, rows: Rows) -> None:
    dp.Snapshot.objects.update(state="EXPIRED")
    assert "recoverable here to" not in reader.get(reverse("dp:domains")).content.decode()


@pytest.mark.django_db
def test_it_lists_the_worst_alert_first(admin: Client) -> None:
    for severity in ("info", "critical", "warning"):
        Alert.objects.create(kind="k", severity=severity, title=severity, message="m", dedup_key=severity)
    listed = admin.get(reverse("console:alerts")).context["table"].rows
    assert [alert.severity for alert in listed] == ["critical", "warning", "info"]


@pytest.mark.django_db
def test_it_says_that_a_search_found_nothing_and_else_what_to_do_first(admin: Client) -> None:
    empty = admin.get(reverse("dp:vms")).content.decode()
    assert "No VMs" in empty
    assert f'href="{reverse("dp:vm-new")}" hx-get' in empty
    searched = admin.get(reverse("dp:vms"), {"q": "absent"}).content.decode()
    assert "No row matches “absent”." in searched
    assert "No VMs" not in searched
    created = admin.get(reverse("dp:vm-new")).content.decode()
    assert "None yet: create a container first" in created
