# SPDX-License-Identifier: Apache-2.0
"""Dialogs: wrong input is 422 with the message, an order is given once, and buttons that are off say why."""

from __future__ import annotations

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from dataprotection.models import OneTimeSnapshot, ProtectionDomain, StorageContainer
from dataprotection.web.reasons import reasons_of
from prism.core.models import Alert, ApiToken, Task
from replication.models import RemoteSite
from tests.console.conftest import Rows, make_domain

pytestmark = pytest.mark.usefixtures("no_workers")


def test_it_takes_a_snapshot_once_when_the_form_is_sent_twice(operator: Client, rows: Rows) -> None:
    url = reverse("dp:take-snapshot", args=[rows.domain.pk])
    sent = {"local": "on", "sites": [rows.site.pk], "retention": "3600", "form_token": str(uuid.uuid4())}
    first, second = operator.post(url, sent), operator.post(url, sent)
    ordered = OneTimeSnapshot.objects.get()
    assert ordered.retention_seconds == 3600
    assert list(ordered.sites.all()) == [rows.site]
    assert first["Location"] == reverse("console:task", args=[ordered.task_id])
    assert second.status_code == 302


def test_it_schedules_a_later_snapshot(operator: Client, rows: Rows) -> None:
    url = reverse("dp:take-snapshot", args=[rows.domain.pk])
    answer = operator.post(url, {"local": "on", "start": "3600"})
    assert answer["Location"].endswith("?tab=schedules")
    assert OneTimeSnapshot.objects.get().task is None


def test_it_tells_htmx_where_to_go_after_an_order(operator: Client, rows: Rows) -> None:
    url = reverse("dp:take-snapshot", args=[rows.domain.pk])
    answer = operator.post(url, {"local": "on"}, headers={"HX-Request": "true", "HX-Target": "dialog"})
    assert answer.status_code == 204
    assert answer["HX-Redirect"].startswith("/tasks/")


def test_it_refuses_a_snapshot_without_target(operator: Client, rows: Rows) -> None:
    answer = operator.post(reverse("dp:take-snapshot", args=[rows.domain.pk]), {})
    assert answer.status_code == 422
    assert not OneTimeSnapshot.objects.exists()


def test_it_answers_a_refused_form_with_a_fresh_token(operator: Client, rows: Rows) -> None:
    url, token = reverse("dp:wizard-name"), str(uuid.uuid4())
    refused = operator.post(url, {"name": "fooPD", "form_token": token}).content.decode()
    assert token not in refused
    assert "form_token" in refused


@pytest.mark.parametrize(
    ("route", "sent"),
    [
        ("dp:migrate", {"confirm": "MIGRATE"}),
        ("dp:migrate", {"confirm": "migrate please"}),
        ("dp:activate", {}),
        ("dp:deactivate", {"confirm": "foo"}),
        ("dp:delete", {"confirm": ""}),
    ],
)
def test_it_does_nothing_without_the_confirmation(
    operator: Client, rows: Rows, route: str, sent: dict[str, str]
) -> None:
    before = Task.objects.count()
    answer = operator.post(reverse(route, args=[rows.domain.pk]), sent)
    assert answer.status_code == 422
    assert answer.context["form"].errors
    rows.domain.refresh_from_db()
    assert (rows.domain.phase, rows.domain.marked_for_removal, Task.objects.count()) == ("ACTIVE", False, before)


def test_it_refuses_to_activate_an_active_domain_in_words(operator: Client, rows: Rows) -> None:
    answer = operator.post(reverse("dp:activate", args=[rows.domain.pk]), {"confirm": "on"})
    assert answer.status_code == 422
    assert answer.context["form"].non_field_errors()


def test_it_deletes_a_domain_after_its_name_was_typed(operator: Client, rows: Rows) -> None:
    make_domain("old")
    old = ProtectionDomain.objects.get(name="old")
    assert operator.post(reverse("dp:delete", args=[old.pk]), {"confirm": "old"}).status_code == 302
    assert not ProtectionDomain.objects.filter(name="old", marked_for_removal=False).exists()


def test_it_refuses_a_restore_without_entities_or_prefix(operator: Client, rows: Rows) -> None:
    url = reverse("dp:restore", args=[rows.snapshot.pk])
    assert "entities" in operator.post(url, {"how": "create"}).context["form"].errors
    answer = operator.post(url, {"how": "create", "entities": [str(rows.vm.pk)]})
    assert "vm_prefix" in answer.context["form"].errors
    assert "vm_prefix" in operator.post(url, {"how": "create", "entities": [str(rows.vm.pk)]}).content.decode()


def test_it_offers_no_overwrite_on_an_inactive_domain(operator: Client, rows: Rows) -> None:
    ProtectionDomain.objects.filter(pk=rows.domain.pk).update(mode="inactive", phase="INACTIVE")
    url = reverse("dp:restore", args=[rows.snapshot.pk])
    assert operator.post(url, {"how": "overwrite", "entities": [str(rows.vm.pk)]}).status_code == 422


def test_it_shows_a_disabled_order_with_its_reason(operator: Client, rows: Rows) -> None:
    ProtectionDomain.objects.filter(pk=rows.domain.pk).update(stale_state="active_elsewhere", peer_active_site="TM3")
    page = operator.get(reverse("dp:domain", args=[rows.domain.pk])).content.decode()
    assert "It is active on TM3 too" in page
    assert reverse("dp:migrate", args=[rows.domain.pk]) not in page


def test_it_knows_why_each_order_is_off() -> None:
    domain, site = ProtectionDomain(name="a"), RemoteSite(name="b", certificate_pem="x")
    free = reasons_of(domain, entities=1, restore_points=1, sites=[site])
    assert (free.take_snapshot, free.migrate, free.deactivate, free.delete) == ("", "", "", "")
    assert free.activate
    assert reasons_of(domain, entities=0, restore_points=1, sites=[site]).take_snapshot
    assert reasons_of(domain, entities=1, restore_points=1, sites=[]).migrate
    moving = ProtectionDomain(name="c", phase="MIGRATING_OUT")
    assert reasons_of(moving, entities=1, restore_points=1, sites=[site]).delete
    passive = ProtectionDomain(name="d", mode="inactive", phase="INACTIVE")
    assert reasons_of(passive, entities=1, restore_points=1, sites=[site]).activate == ""
    assert reasons_of(passive, entities=1, restore_points=0, sites=[site]).activate


def test_it_acknowledges_and_resolves_an_alert(operator: Client, rows: Rows) -> None:
    for verb in ("acknowledge", "resolve"):
        operator.post(reverse(f"console:alert-{verb}", args=[rows.alert.pk]), {"next": "//evil.example/"})
    alert = Alert.objects.get()
    assert alert.acknowledged_by == alert.resolved_by == "olga"


def test_it_never_leaves_the_site_after_an_order(operator: Client, rows: Rows) -> None:
    for target in ("//evil.example/", "https://evil.example/", "javascript:alert(1)"):
        answer = operator.post(reverse("console:theme"), {"theme": "dark", "next": target})
        assert answer["Location"] == "/"


def test_it_makes_a_token_shows_it_once_and_revokes_it(reader: Client, rows: Rows) -> None:
    answer = reader.post(reverse("console:token-new"), {"name": "mine", "days": "30"})
    token = ApiToken.objects.get()
    text = answer.context["text"]
    assert text in answer.content.decode()
    assert text not in reader.get(reverse("console:tokens")).content.decode()
    reader.post(reverse("console:token-revoke", args=[token.pk]))
    token.refresh_from_db()
    assert token.revoked_at is not None


def test_it_hides_the_tokens_of_others(reader: Client, admin_user: object, rows: Rows) -> None:
    theirs = ApiToken.objects.get()
    assert reader.post(reverse("console:token-revoke", args=[theirs.pk])).status_code == 404


def test_it_refuses_wrong_sizes(operator: Client, rows: Rows) -> None:
    url = reverse("dp:vm-disk-new", args=[rows.vm.pk])
    for size in ("", "ten", "-1 GiB", "0", "65 TiB", "9" * 40):
        assert operator.post(url, {"size": size, "bus": "scsi"}).status_code == 422, size


def test_it_creates_changes_and_deletes_a_container(operator: Client, rows: Rows) -> None:
    operator.post(reverse("dp:container-new"), {"name": "archive", "fingerprinting": "on"})
    made = StorageContainer.objects.get(name="archive")
    operator.post(reverse("dp:container-edit", args=[made.pk]), {"compress": "on"})
    made.refresh_from_db()
    assert (made.fingerprinting, made.compress) == (False, True)
    assert operator.post(reverse("dp:container-delete", args=[rows.container.pk])).status_code == 422
    operator.post(reverse("dp:container-delete", args=[made.pk]))
    assert not StorageContainer.objects.filter(name="archive").exists()


def test_it_refuses_a_wrong_mapping_beside_its_field(operator: Client, rows: Rows) -> None:
    url = reverse("rep:site-edit", args=[rows.site.uuid])
    sent = {"name": "TM3", "capability": "backup", "host": "10.7.0.2", "control_port": "2020", "data_port": "2009"}
    assert "container_map" in operator.post(url, {**sent, "container_map": "default"}).context["form"].errors
    assert operator.post(url, {**sent, "container_map": "default = archive"}).status_code == 302
    rows.site.refresh_from_db()
    assert rows.site.container_map == {"default": "archive"}


def test_it_ignores_a_wild_address(operator: Client, rows: Rows) -> None:
    url = reverse("dp:domain", args=[rows.domain.pk])
    for query in ("tab=nothing", "t_sort=%00&t_page=-7", "t_page=9999999999999999999999", "t_q=%00", "sort=pk;drop"):
        assert operator.get(f"{url}?{query}").status_code == 200, query


def test_it_never_writes_over_what_somebody_else_changed_meanwhile(operator: Client, rows: Rows) -> None:
    url = reverse("dp:container-edit", args=[rows.container.pk])
    shown = operator.get(url).context["seen"]
    stored = type(rows.container).objects.filter(pk=rows.container.pk)
    stored.update(compress=not rows.container.compress)

    refused = operator.post(url, {"form_seen": shown})
    assert refused.status_code == 422
    assert "Somebody else changed this" in refused.content.decode()
    assert "Stored now" in refused.content.decode()
    assert stored.get().compress is not rows.container.compress

    again = operator.post(url, {"form_seen": refused.context["seen"]})
    assert again.status_code == 302
    assert not stored.get().compress


def test_a_wrong_field_does_not_make_it_forget_what_was_shown(operator: Client, rows: Rows) -> None:
    url = reverse("dp:vm-edit", args=[rows.vm.pk])
    shown = operator.get(url).context["seen"]
    type(rows.vm).objects.filter(pk=rows.vm.pk).update(description="of somebody else")
    sent = {"name": rows.vm.name, "vcpus": "none", "memory": "1 GiB", "power_state": "off", "form_seen": shown}
    wrong = operator.post(url, sent)
    assert wrong.context["form"].errors["vcpus"]
    refused = operator.post(url, {**sent, "vcpus": "2", "form_seen": wrong.context["seen"]})
    assert "Description: of somebody else" in refused.content.decode()


def test_it_says_in_the_dialog_what_is_gone(operator: Client, rows: Rows) -> None:
    url = reverse("dp:delete", args=[uuid.uuid4()])
    for answer in (
        operator.get(url, headers={"HX-Request": "true", "HX-Target": "dialog"}),
        operator.post(url, {"confirm": "x"}, headers={"HX-Request": "true", "HX-Target": "dialog"}),
    ):
        text = answer.content.decode()
        assert answer.status_code == 404
        assert answer["X-Request-ID"] in text
        assert "may have been deleted" in text
        assert "<html" not in text
