# SPDX-License-Identifier: Apache-2.0
"""Snapshot, restore and clone on the real engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from dp_kit import ACTOR, Queue, last_task, nbd, read, take, write

from dataprotection.choices import OneTimeState, SnapshotKind, SnapshotState
from dataprotection.models import VM, ProtectedEntity, ProtectionDomain, Snapshot, VolumeGroup
from dataprotection.services import domains, protection, restore, snapshots, vms
from prism.core.exceptions import Conflict, InvalidInput
from prism.core.models import Alert, AuditRow
from tests.support.engine_site import EngineSite


def test_it_takes_one_snapshot_of_all_disks(domain: ProtectionDomain, queue: Queue, engine: EngineSite) -> None:
    row = take(domain, queue)
    found = engine.engine.snapshot(str(row.uuid))
    assert len(found["members"]) == 3
    assert row.display_id.isdigit()
    assert row.state == SnapshotState.RETAIN_FOREVER
    assert row.manifest == found["manifest"]
    assert AuditRow.objects.filter(verb="snapshot.take", outcome="ok").exists()


def test_it_takes_the_same_snapshot_once_when_the_message_comes_twice(domain: ProtectionDomain, queue: Queue) -> None:
    snapshots.take(domain, actor=ACTOR)
    queue.sent = queue.sent * 2
    queue.run()
    assert Snapshot.objects.count() == 1


def test_it_waits_for_a_later_time(domain: ProtectionDomain, queue: Queue) -> None:
    now = timezone.now()
    order = snapshots.take(domain, run_at=now + timedelta(hours=1), retention_seconds=3600, actor=ACTOR)
    assert snapshots.enqueue_due(now) == 0
    assert snapshots.enqueue_due(now + timedelta(hours=2)) == 1
    queue.run()
    order.refresh_from_db()
    row = Snapshot.objects.get()
    assert order.state == OneTimeState.DONE
    assert row.expires_at == row.created_at + timedelta(hours=1)


def test_it_overwrites_and_keeps_a_safety_snapshot(domain: ProtectionDomain, queue: Queue, engine: EngineSite) -> None:
    disk = VM.objects.get().disks.first()
    assert disk is not None
    write(engine, disk, b"before")
    row = take(domain, queue)
    write(engine, disk, b"after")
    vms.update(VM.objects.get(), vcpus=8, actor=ACTOR)
    restore.overwrite(row, actor=ACTOR)
    queue.run()
    assert last_task().state == "succeeded", last_task().error
    assert read(engine, disk) == b"before"
    assert VM.objects.get().vcpus == 1
    safety = Snapshot.objects.get(kind=SnapshotKind.SAFETY)
    restore.overwrite(safety, actor=ACTOR)
    queue.run()
    assert read(engine, disk) == b"after"


def test_it_refuses_to_overwrite_a_disk_with_a_connected_writer(
    domain: ProtectionDomain, queue: Queue, engine: EngineSite
) -> None:
    row = take(domain, queue)
    disk = VM.objects.get().disks.first()
    assert disk is not None
    with nbd(engine, disk) as client:
        client.write(0, b"x" * 4096)
        with pytest.raises(Conflict, match="has a disk of vm1 open"):
            restore.overwrite(row, actor=ACTOR)
        assert read(engine, disk) == b"x" * 4096
        restore.overwrite(row, disconnect_writers=True, actor=ACTOR)
        queue.run()
    assert last_task().state == "succeeded", last_task().error
    assert read(engine, disk) == b"\0" * 4096
    safety = Snapshot.objects.get(kind=SnapshotKind.SAFETY)
    assert safety.expires_at is not None


def test_it_brings_a_deleted_vm_back(domain: ProtectionDomain, queue: Queue, engine: EngineSite) -> None:
    key = VM.objects.get().uuid
    disk = VM.objects.get().disks.first()
    assert disk is not None
    write(engine, disk, b"kept")
    row = take(domain, queue)
    vms.delete(VM.objects.get(), even_if_protected=True, actor=ACTOR)
    assert ProtectedEntity.objects.get(name="vm1").target is None
    restore.overwrite(row, actor=ACTOR)
    queue.run()
    assert last_task().state == "succeeded", last_task().error
    back = VM.objects.get()
    assert back.uuid == key
    assert back.power_state == "off"
    assert ProtectedEntity.objects.get(name="vm1").vm == back
    assert read(engine, back.disks.get(pk=disk.pk)) == b"kept"


def test_it_clones_with_prefixes(domain: ProtectionDomain, queue: Queue, engine: EngineSite) -> None:
    disk = VM.objects.get().disks.first()
    assert disk is not None
    write(engine, disk, b"data")
    row = take(domain, queue)
    restore.clone(row, vm_prefix="copy-", volume_group_prefix="new-", actor=ACTOR)
    queue.sent = queue.sent * 2
    queue.run()
    copy = VM.objects.get(name="copy-vm1")
    assert VolumeGroup.objects.filter(name="new-vg1").count() == 1
    assert read(engine, copy.disks.get(bus=disk.bus, index=disk.index)) == b"data"
    assert copy.power_state == "off"
    assert not ProtectedEntity.objects.filter(vm=copy).exists()
    assert copy.nics.get().mac != VM.objects.get(name="vm1").nics.get().mac


def test_it_refuses_a_clone_whose_name_is_taken(domain: ProtectionDomain, queue: Queue) -> None:
    row = take(domain, queue)
    with pytest.raises(InvalidInput, match="already a VM named vm1"):
        restore.clone(row, volume_group_prefix="new-", actor=ACTOR)
    assert not queue.sent


def test_it_refuses_to_restore_an_expired_snapshot(domain: ProtectionDomain, queue: Queue) -> None:
    row = take(domain, queue, retention_seconds=60)
    Snapshot.objects.update(state=SnapshotState.EXPIRED)
    row.refresh_from_db()
    for verb in (restore.overwrite, restore.clone):
        with pytest.raises(Conflict, match="expired") as caught:
            verb(row, actor=ACTOR)
        assert caught.value.next_step
    assert AuditRow.objects.filter(verb="restore.overwrite", outcome="refused").exists()


def test_it_restores_chosen_entities_only(domain: ProtectionDomain, queue: Queue, engine: EngineSite) -> None:
    vm_disk, group_disk = VM.objects.get().disks.first(), VolumeGroup.objects.get().disks.first()
    assert vm_disk is not None
    assert group_disk is not None
    row = take(domain, queue)
    write(engine, vm_disk, b"new")
    write(engine, group_disk, b"new")
    restore.overwrite(row, entity_uuids=[VM.objects.get().uuid], actor=ACTOR)
    queue.run()
    assert read(engine, vm_disk) == b"\0" * 4096
    assert read(engine, group_disk) == b"new"


def test_it_snapshots_the_others_when_an_entity_is_missing(domain: ProtectionDomain, queue: Queue) -> None:
    vms.delete(VM.objects.get(), even_if_protected=True, actor=ACTOR)
    row = take(domain, queue)
    assert [entity["name"] for entity in row.manifest["entities"]] == ["vg1"]
    assert Alert.objects.get(kind="entities_not_snapshotted", resolved_at=None).severity == "critical"


def test_it_says_that_an_app_consistent_snapshot_was_not_taken(make_vm: Callable[..., VM], queue: Queue) -> None:
    domain = domains.create(name="pd", actor=ACTOR)
    protection.protect(domain, entities=[make_vm()], app_consistent=True, actor=ACTOR)
    row = take(domain, queue)
    assert (row.consistency_wanted, row.consistency) == ("app", "crash")
    assert Alert.objects.get(kind="app_consistency_not_taken").title.startswith("Application Consistent Snapshot Not")


def test_it_refuses_a_snapshot_of_an_empty_or_inactive_domain(site: object, queue: Queue) -> None:
    domain = domains.create(name="pd", actor=ACTOR)
    with pytest.raises(Conflict, match="no entities"):
        snapshots.take(domain, actor=ACTOR)
    ProtectionDomain.objects.update(mode="inactive", phase="INACTIVE")
    with pytest.raises(Conflict, match="inactive"):
        snapshots.take(domain, actor=ACTOR)
    ProtectionDomain.objects.update(mode="active", phase="ACTIVE", stale_state="active_elsewhere")
    with pytest.raises(Conflict, match="active on another site"):
        snapshots.take(domain, actor=ACTOR)


def test_it_deletes_a_snapshot_in_the_engine_too(domain: ProtectionDomain, queue: Queue, engine: EngineSite) -> None:
    row = take(domain, queue)
    key = str(row.uuid)
    snapshots.delete(row, actor=ACTOR)
    assert not Snapshot.objects.exists()
    assert key not in {found["snapshot"] for found in engine.engine.snapshots()}


def test_it_hides_the_base_when_local_is_unticked_and_needs_a_target(domain: ProtectionDomain, queue: Queue) -> None:
    with pytest.raises(InvalidInput, match="kept nowhere"):
        snapshots.take(domain, local=False, actor=ACTOR)
