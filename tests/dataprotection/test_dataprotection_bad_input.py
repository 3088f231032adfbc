# SPDX-License-Identifier: Apache-2.0
"""The "Bad input" of the issue: a clear message that says what to do, and nothing changed."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from dp_kit import ACTOR, Queue

from dataprotection.models import VM, ProtectedEntity, ProtectionDomain, Schedule, VolumeGroup
from dataprotection.services import activation, containers, domains, migrate, naming, protection, schedules
from dataprotection.services.schedules import ScheduleSpec
from prism.core.exceptions import Conflict, IllegalTransition, InvalidInput
from prism.core.models import AuditRow, Task
from replication.exceptions import PeerUnreachable
from replication.models import RemoteSite


def remote(**fields: object) -> RemoteSite:
    values = {"name": "site2", "site_uuid": uuid.uuid4(), "certificate_pem": "pinned", "addresses": []}
    return RemoteSite.objects.create(**{**values, **fields})


@pytest.mark.parametrize("name", ["", "x" * 76, "Zürich", "a b", "a/b", "データ", "a\n"])
def test_it_refuses_long_and_foreign_domain_names(site: object, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        domains.create(name=name, actor=ACTOR)
    assert caught.value.field == "name"
    assert caught.value.next_step
    assert not ProtectionDomain.objects.exists()
    assert AuditRow.objects.get().outcome == "refused"


def test_it_takes_a_name_of_75_characters(site: object) -> None:
    assert domains.create(name="x" * 75, actor=ACTOR).name == "x" * 75


@pytest.mark.parametrize("path", ["", "relative", "/a/../b", "/a//b", "/ä", "/" + "x" * 1025, "/a/."])
def test_it_refuses_foreign_paths(path: str) -> None:
    with pytest.raises(InvalidInput):
        naming.file_path(path)


def test_it_refuses_a_duplicate_here(site: object) -> None:
    domains.create(name="pd", actor=ACTOR)
    with pytest.raises(InvalidInput, match="already a protection domain named pd") as caught:
        domains.create(name="pd", actor=ACTOR)
    assert caught.value.code == "name_taken"


def test_it_refuses_a_duplicate_at_the_target(domain: ProtectionDomain, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the other site answers is its handler's matter, tested there.
    from replication.rpc import client

    monkeypatch.setattr(client, "call", lambda *_args, **_kwargs: {"known": False, "name_taken": True})
    spec = ScheduleSpec("HOURLY", 1, remotes={remote().pk: 2})
    with pytest.raises(InvalidInput, match="site2 has another protection domain named pd1"):
        schedules.add(domain, spec, actor=ACTOR)
    assert not Schedule.objects.exists()


def test_it_refuses_an_entity_that_is_protected_already(domain: ProtectionDomain) -> None:
    other = domains.create(name="pd2", actor=ACTOR)
    with pytest.raises(Conflict, match="vm1 is already protected by pd1"):
        protection.protect(other, entities=[VM.objects.get()], actor=ACTOR)
    assert not other.entities.exists()
    assert not other.groups.exists()


def test_it_refuses_an_end_before_the_start(domain: ProtectionDomain) -> None:
    start = datetime(2026, 5, 4, 15, 38, tzinfo=UTC)
    with pytest.raises(InvalidInput) as caught:
        schedules.add(
            domain, ScheduleSpec("HOURLY", 1, start_at=start, end_at=start - timedelta(seconds=1)), actor=ACTOR
        )
    assert caught.value.field == "end_at"


def test_it_refuses_a_remote_retention_without_a_site(domain: ProtectionDomain) -> None:
    with pytest.raises(InvalidInput, match="needs a remote site"):
        schedules.add(domain, ScheduleSpec("HOURLY", 1, remotes={4711: 2}), actor=ACTOR)


def test_it_refuses_a_target_that_is_not_paired(domain: ProtectionDomain) -> None:
    site = remote(certificate_pem="", site_uuid=None)
    with pytest.raises(InvalidInput, match="not paired"):
        schedules.add(domain, ScheduleSpec("HOURLY", 1, remotes={site.pk: 2}), actor=ACTOR)


@pytest.mark.parametrize("minutes", [1, 15])
def test_it_refuses_nearsync_until_it_exists(domain: ProtectionDomain, minutes: int) -> None:
    with pytest.raises(InvalidInput, match="until NearSync exists") as caught:
        schedules.add(domain, ScheduleSpec("MINUTELY", minutes), actor=ACTOR)
    assert caught.value.code == "needs_nearsync"


@pytest.mark.parametrize("minutes", [16, 59])
def test_it_refuses_16_to_59_minutes_always(domain: ProtectionDomain, minutes: int) -> None:
    with pytest.raises(InvalidInput, match="16 to 59 minutes are not possible"):
        schedules.add(domain, ScheduleSpec("MINUTELY", minutes), actor=ACTOR)


def test_it_refuses_an_app_consistent_group_with_more_than_one_vm(
    make_vm: Callable[..., VM], make_group: Callable[..., VolumeGroup]
) -> None:
    pd = domains.create(name="pd", actor=ACTOR)
    for entities in ([make_vm("a"), make_vm("b")], [make_group()]):
        with pytest.raises(InvalidInput, match="one VM and nothing else"):
            protection.protect(
                pd, entities=entities, group_mode="new", group_name="g", app_consistent=True, actor=ACTOR
            )
    assert not ProtectedEntity.objects.exists()


def test_it_refuses_to_activate_an_active_domain(domain: ProtectionDomain) -> None:
    with pytest.raises(IllegalTransition, match="active here already") as caught:
        activation.activate(domain, actor=ACTOR)
    assert caught.value.http_status == 409
    assert not Task.objects.exists()


def test_it_refuses_to_migrate_to_an_unreachable_site(
    domain: ProtectionDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    from replication.rpc import client

    def silent(*_args: object, **_kwargs: object) -> None:
        raise PeerUnreachable("site2 does not answer.")

    monkeypatch.setattr(client, "call", silent)
    with pytest.raises(PeerUnreachable):
        migrate.migrate(domain, site=remote(), actor=ACTOR)
    domain.refresh_from_db()
    assert domain.phase == "ACTIVE"
    assert not Task.objects.exists()


def test_it_refuses_to_migrate_to_a_site_that_is_too_small(
    domain: ProtectionDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    from replication.rpc import client

    answer = {"obstacles": ["There is not enough free space here: 5 bytes are missing."]}
    monkeypatch.setattr(client, "call", lambda *_args, **_kwargs: answer)
    with pytest.raises(Conflict, match="not enough free space"):
        migrate.migrate(domain, site=remote(), actor=ACTOR)
    domain.refresh_from_db()
    assert domain.phase == "ACTIVE"


def test_it_refuses_to_delete_a_domain_with_schedules(domain: ProtectionDomain) -> None:
    schedules.add(domain, ScheduleSpec("HOURLY", 1), actor=ACTOR)
    with pytest.raises(Conflict, match="1 schedules"):
        domains.delete(domain, actor=ACTOR)
    domain.refresh_from_db()
    assert not domain.marked_for_removal


def test_it_refuses_a_container_that_is_not_empty(domain: ProtectionDomain, queue: Queue) -> None:
    with pytest.raises(Conflict, match="still holds 2 entities"):
        containers.delete(VM.objects.get().container, actor=ACTOR)


def test_it_makes_the_first_snapshot_at_once_then_follows_the_grid(domain: ProtectionDomain) -> None:
    start = timezone.now() - timedelta(minutes=1, seconds=18)
    row = schedules.add(domain, ScheduleSpec("HOURLY", 1, start_at=start), actor=ACTOR)
    assert row.next_due_at is not None
    assert start < row.next_due_at <= timezone.now()
