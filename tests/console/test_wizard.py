# SPDX-License-Identifier: Apache-2.0
"""+ Protection Domain -> Async DR, as the documentation walks it: Name, Entities, Schedule, Close."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from dataprotection.models import ConsistencyGroup, ProtectedEntity, ProtectionDomain, Schedule
from prism.core.models import AuditRow
from tests.console.conftest import Rows, make_snapshot

HOURLY = {"every_nth": "1", "type": "HOURLY", "timezone": "UTC", "local_ticked": "on", "local_keep": "6"}


pytestmark = pytest.mark.usefixtures("no_workers")


def test_it_walks_the_wizard_to_a_protected_scheduled_domain(operator: Client, served: Rows) -> None:
    answer = operator.post(reverse("dp:wizard-name"), {"name": "tier1"})
    domain = ProtectionDomain.objects.get(name="tier1")
    entities = reverse("dp:wizard-entities", args=[domain.pk])
    assert answer["Location"] == entities

    page = operator.get(entities).content.decode()
    assert "spare" in page
    assert f'value="vm:{served.vm.pk}"' not in page  # protected by fooPD already

    chosen = [f"vm:{served.free_vm.pk}", f"volume_group:{served.group.pk}"]
    sent = {"entities": chosen, "group_mode": "new", "new_group": "app and db"}
    assert operator.post(entities, sent).status_code == 302
    assert set(ProtectedEntity.objects.filter(domain=domain).values_list("name", flat=True)) == {"spare", "data"}
    assert ConsistencyGroup.objects.get(domain=domain).name == "app and db"

    new = reverse("dp:schedule-new", args=[domain.pk])
    schedule = {**HOURLY, f"site_{served.site.pk}": "on", f"keep_{served.site.pk}": "12"}
    assert operator.post(new, schedule)["Location"] == reverse("dp:wizard-schedules", args=[domain.pk])
    made = Schedule.objects.get(domain=domain)
    assert (made.type, made.local_keep, made.remotes.get().keep) == ("HOURLY", 6, 12)
    assert "Every hour" in operator.get(reverse("dp:domain", args=[domain.pk]) + "?tab=schedules").content.decode()
    verbs = set(AuditRow.objects.filter(actor="olga", source="console", outcome="ok").values_list("verb", flat=True))
    assert len(verbs) >= 3


def test_it_refuses_a_taken_name_beside_the_field(operator: Client, rows: Rows) -> None:
    answer = operator.post(reverse("dp:wizard-name"), {"name": "fooPD"})
    assert answer.status_code == 422
    assert answer.context["form"].errors["name"]
    assert 'aria-invalid="true"' in answer.content.decode()


@pytest.mark.parametrize("name", ["", "x" * 76, "grün", "a b"])
def test_it_refuses_bad_names(operator: Client, rows: Rows, name: str) -> None:
    assert operator.post(reverse("dp:wizard-name"), {"name": name}).status_code == 422
    assert ProtectionDomain.objects.count() == 1


def test_it_refuses_an_entity_that_was_protected_meanwhile(operator: Client, rows: Rows) -> None:
    other = ProtectionDomain.objects.create(name="other")
    url = reverse("dp:wizard-entities", args=[other.pk])
    answer = operator.post(url, {"entities": [f"vm:{rows.vm.pk}"], "group_mode": "entity_name"})
    assert answer.status_code == 422
    assert other.entities.count() == 0


def test_it_asks_for_entities_and_for_the_group(operator: Client, rows: Rows) -> None:
    url = reverse("dp:wizard-entities", args=[rows.domain.pk])
    assert "entities" in operator.post(url, {"group_mode": "entity_name"}).context["form"].errors
    sent = {"entities": [f"vm:{rows.free_vm.pk}"], "group_mode": "existing"}
    assert "existing_group" in operator.post(url, sent).context["form"].errors


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": "MINUTELY", "every_nth": "15"}, "every_nth"),
        ({"type": "MINUTELY", "every_nth": "59"}, "every_nth"),
        ({"every_nth": "0"}, "every_nth"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"start_at": "2030-01-02T00:00", "ends": "on", "end_at": "2030-01-01T00:00"}, "end_at"),
        ({"local_ticked": ""}, "local_ticked"),
    ],
)
def test_it_refuses_a_wrong_schedule_beside_its_field(
    operator: Client, rows: Rows, change: dict[str, str], field: str
) -> None:
    answer = operator.post(reverse("dp:schedule-new", args=[rows.domain.pk]), {**HOURLY, **change})
    assert answer.status_code == 422
    assert field in answer.context["form"].errors
    assert Schedule.objects.count() == 1


def test_it_takes_and_shows_moments_as_all_times_of_the_console_are(operator: Client, rows: Rows) -> None:
    url = reverse("dp:schedule-new", args=[rows.domain.pk])
    sent = {**HOURLY, "timezone": "Europe/Berlin", "start_at": "2030-01-02 08:30", "preview": "1"}
    answer = operator.post(url, sent)
    assert answer.context["preview"].cleaned_data["start_at"].isoformat() == "2030-01-02T08:30:00+01:00"
    text = answer.content.decode()
    assert text.count("End on") == 1
    assert 'type="datetime-local"' not in text


def test_it_says_that_nearsync_is_not_in_this_release(operator: Client, rows: Rows) -> None:
    answer = operator.post(reverse("dp:schedule-preview"), {**HOURLY, "type": "MINUTELY", "every_nth": "5"})
    assert "NearSync" in answer.content.decode()


def test_it_previews_five_runs_without_making_a_schedule(operator: Client, rows: Rows) -> None:
    url = reverse("dp:schedule-new", args=[rows.domain.pk])
    answer = operator.post(url, {**HOURLY, "timezone": "Europe/Berlin", "preview": "1"})
    assert answer.status_code == 200
    runs = answer.context["preview"].next_runs()
    assert [(later.at - run.at).total_seconds() for run, later in pairwise(runs)] == [3600] * 4
    assert Schedule.objects.count() == 1


def test_it_unprotects_from_the_right_side(operator: Client, served: Rows) -> None:
    url = reverse("dp:wizard-entities", args=[served.domain.pk])
    operator.post(url, {"entities": [f"vm:{served.free_vm.pk}"], "group_mode": "entity_name"})
    member = served.domain.entities.get(name="spare")
    operator.post(reverse("dp:unprotect", args=[served.domain.pk]), {"members": [member.pk], "wizard": "1"})
    assert list(served.domain.entities.values_list("name", flat=True)) == ["app01"]


def test_it_previews_what_the_retention_will_have_left(operator: Client, rows: Rows) -> None:
    for number in range(1, 9):
        make_snapshot(rows.domain, number, rows.vm, expires_at=timezone.now() + timedelta(hours=number))
    form = {"every_nth": "1", "type": "HOURLY", "timezone": "UTC", "local_ticked": "on", "local_keep": "4"}
    about = {"domain": str(rows.domain.pk), "schedule": str(rows.schedule.pk)}
    answer = operator.post(reverse("dp:schedule-preview"), {**form, **about}, headers={"HX-Request": "true"})
    told = answer.context["outlooks"]
    of_the_schedule, without_expiration = 4, 1
    assert [outlook.points for outlook in told[1:]] == [of_the_schedule + without_expiration] * 4
    assert told[0].gone == 0
    assert told[1].gone == 8
    assert "Restore points of this domain here" in answer.content.decode()


@pytest.mark.parametrize("key", ["", "nonsense", "00000000-0000-4000-8000-000000000000"])
def test_it_previews_runs_alone_for_a_domain_that_does_not_exist(operator: Client, rows: Rows, key: str) -> None:
    form = {"every_nth": "1", "type": "HOURLY", "timezone": "UTC", "local_ticked": "on", "local_keep": "4"}
    answer = operator.post(reverse("dp:schedule-preview"), {**form, "domain": key, "schedule": key})
    assert answer.status_code == 200
    assert "Next 5 runs" in answer.content.decode()
    assert "outlooks" not in answer.context


def test_it_lists_no_more_than_one_form_can_tick(
    operator: Client, served: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = reverse("dp:wizard-entities", args=[served.domain.pk])
    monkeypatch.setattr("dataprotection.web.wizard.LISTED_MAX", 1)
    page = operator.get(url).content.decode()
    assert "Unprotected Entities (1+)" in page
    assert "The first 1 are listed" in page
    # What is not listed, because others came before it, may still be ticked on a page that was opened earlier.
    key = f"volume_group:{served.group.pk}"
    assert operator.post(url, {"entities": [key], "group_mode": "entity_name"}).status_code == 302


@pytest.mark.parametrize("key", ["vm", "vm:", "vm:1", "tape:00000000-0000-0000-0000-000000000000", ":" * 200])
def test_it_refuses_a_key_that_names_no_entity(operator: Client, served: Rows, key: str) -> None:
    answer = operator.post(
        reverse("dp:wizard-entities", args=[served.domain.pk]), {"entities": [key], "group_mode": "entity_name"}
    )
    assert answer.status_code == 422
    assert answer.context["form"].errors["entities"]
