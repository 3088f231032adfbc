# SPDX-License-Identifier: Apache-2.0
"""Lists: searched and sorted as the console's tables of the same rows."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from dataprotection.api import domains, inventory, snapshots
from dataprotection.models import ProtectionDomain, StorageContainer
from dataprotection.web import domains as domain_pages
from dataprotection.web import panes
from dataprotection.web.inventory import vms, volume_groups
from prism.console.views import notices, tasks, users
from prism.core.actor import Actor
from prism.core.api import views
from prism.core.api.users import UserViewSet
from prism.core.models import AuditRow, Event, Site
from prism.core.services import tokens
from replication.api.views import RemoteSiteViewSet, ReplicationViewSet
from replication.web import sites

pytestmark = pytest.mark.django_db

SAME: list[tuple[Any, Mapping[str, str], set[str]]] = [
    (views.TaskViewSet, tasks.SORTS, set()),
    (views.EventViewSet, notices.EVENT_SORTS, set()),
    (views.AuditViewSet, notices.AUDIT_SORTS, set()),
    (views.AlertViewSet, notices.ALERT_SORTS, {"severity"}),
    (UserViewSet, users.SORTS, set()),
    (inventory.VmViewSet, vms.SORTS, {"disks", "size"}),
    (inventory.VolumeGroupViewSet, volume_groups.SORTS, {"disks", "size"}),
    (domains.DomainViewSet, domain_pages.SORTS, {"entities", "next"}),
    (snapshots.SnapshotViewSet, panes.SNAPSHOT_SORTS, set()),
    (ReplicationViewSet, panes.REPLICATION_SORTS, set()),
    (RemoteSiteViewSet, sites.SORTS, {"out", "in"}),
]
"""The console's columns, and those among them that it counts for each row: the API does not sort by these."""


@pytest.fixture
def client() -> Client:
    Site.objects.create(pk=1, uuid=uuid.uuid4(), name="site1", cluster_id=1, incarnation_id=2)
    user = User.objects.create(username="maria", is_superuser=True)
    _, text = tokens.create(user=user, name="test", actor=Actor.cli("test"))
    return Client(headers={"Authorization": f"Bearer {text}"}, raise_request_exception=False)


def names(client: Client, address: str, field: str = "name") -> list[Any]:
    return [row[field] for row in client.get(f"/api/v1/{address}").json()["results"]]


@pytest.mark.parametrize(("view", "columns", "counted"), SAME, ids=lambda part: getattr(part, "__name__", ""))
def test_it_sorts_by_the_columns_of_the_console(view: Any, columns: Mapping[str, str], counted: set[str]) -> None:
    assert view.sorts == {word: column for word, column in columns.items() if word not in counted}


@pytest.mark.parametrize("kind", [view for view, *_ in SAME] + [inventory.ContainerViewSet, inventory.FileViewSet])
def test_every_column_it_sorts_and_searches_by_is_one(client: Client, kind: Any) -> None:
    rows = kind.queryset.model.objects.all() if kind.queryset is not None else User.objects.all()
    for column in [*kind.sorts.values(), *kind.search]:
        assert list(rows.order_by(column)[:1].values_list(column)) is not None


def test_it_searches_and_sorts(client: Client) -> None:
    for name in ("gold-db", "gold-web", "silver-db"):
        ProtectionDomain.objects.create(name=name)
    assert names(client, "protection-domains/?q=GOLD") == ["gold-db", "gold-web"]
    assert names(client, "protection-domains/?q=db&sort=-name") == ["silver-db", "gold-db"]
    assert names(client, "protection-domains/?q=db&sort=-name&page_size=1&page=2") == ["gold-db"]
    assert names(client, "protection-domains/?q=nothing") == []
    assert len(names(client, "protection-domains/?q=%00")) == 3


@pytest.mark.parametrize("query", ["sort=phase", "sort=--name", "sort=-", "name=%00"])
def test_it_refuses_what_it_cannot_do(client: Client, query: str) -> None:
    answer = client.get(f"/api/v1/protection-domains/?{query}")
    assert answer.status_code == 422
    assert list(answer.json()["error"]["fields"]) == [query.partition("=")[0]]


def test_one_object_is_found_whatever_is_searched(client: Client) -> None:
    container = StorageContainer.objects.create(name="default")
    assert client.get(f"/api/v1/containers/{container.pk}/?q=other&sort=nothing").status_code == 200


def test_a_search_goes_through_the_newest_of_a_table_that_only_grows(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views.EventViewSet, "newest", 2)
    for number in range(4):
        Event.objects.create(kind="demo", message=f"number {number}")
    assert sorted(names(client, "events/?q=number", "message")) == ["number 2", "number 3"]
    assert len(names(client, "events/", "message")) == 4


def test_the_audit_trail_is_asked_for_a_time(client: Client) -> None:
    for verb, day in (("a", 1), ("b", 2), ("c", 3)):
        row = AuditRow.objects.create(verb=verb, actor="maria", outcome="ok")
        AuditRow.objects.filter(pk=row.pk).update(at=f"2026-01-0{day}T00:00:00Z")
    wanted = "since=2026-01-02T00:00:00Z&until=2026-01-03T00:00:00Z"
    assert names(client, f"audit/?{wanted}", "verb") == ["b"]
    assert client.get("/api/v1/audit/?since=yesterday").status_code == 422
