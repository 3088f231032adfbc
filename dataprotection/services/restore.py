# SPDX-License-Identifier: Apache-2.0
"""Restore: overwrite the entities behind the fence, or create new ones beside them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from dataprotection.choices import EntityType, SnapshotKind, SnapshotState, StaleState
from dataprotection.models import ProtectionDomain, Snapshot, VirtualDisk
from dataprotection.services import domains, manifest, membership, naming, phases, recover, taking
from dataprotection.services.fencing import current_term
from dataprotection.services.manifest import EntityEntry, Manifest
from prism.core.actor import Actor
from prism.core.engine import engine
from prism.core.exceptions import Conflict, InvalidInput
from prism.core.models import Task
from prism.core.services import audit, tasks

SAFETY_KEPT = timedelta(days=7)
"""How long the state before an overwrite can be brought back."""


def overwrite(
    snapshot: Snapshot,
    *,
    entity_uuids: Iterable[uuid.UUID | str] | None = None,
    disconnect_writers: bool = False,
    actor: Actor,
    idempotency_key: str | None = None,
) -> Task:
    """Put the chosen entities (None = all) back to the snapshot. A safety snapshot of the domain is taken first.

    Refused while a client has a disk open, unless `disconnect_writers`: then it is cut off behind the fence.
    """
    from dataprotection.tasks import restore_overwrite

    with audit.order(
        "restore.overwrite", actor=actor, object_type="snapshot", object_name=snapshot.display_id
    ) as detail:
        known = tasks.find_by_key(idempotency_key)
        if known is not None:
            return known
        _, entries = _chosen(snapshot, entity_uuids)
        domain = _active_domain(snapshot)
        detail["entities"] = [entry.name for entry in entries]
        _refuse_foreign(domain, entries)
        if not disconnect_writers:
            _refuse_writers(entries)
        task = _task("restore.overwrite", snapshot, entries, actor, idempotency_key)
        task.arguments["disconnect_writers"] = disconnect_writers
        task.save(update_fields=["arguments"])
        tasks.after_commit(restore_overwrite.delay, str(task.pk), current_term())
    return task


def run_overwrite(task_uuid: str, *, term: int | None) -> None:
    """The body of the task. Each step can be repeated; the safety snapshot's uuid follows from the task's."""
    with tasks.running(task_uuid) as task:
        if task is None:
            return
        snapshot = _live(task.arguments["snapshot"])
        actor = Actor.task(task.actor)
        with (
            audit.order(
                "restore.run", actor=actor, object_type="snapshot", object_name=snapshot.display_id, atomic=False
            ) as detail,
            phases.only_one(_active_domain(snapshot).uuid),
        ):
            found = manifest.read(snapshot.manifest)
            entries = found.chosen(task.arguments["entities"])
            domain = _active_domain(snapshot)
            with _exports_up_afterwards(entries, term):
                _refuse_expired(snapshot)  # in here: an earlier, interrupted run may have taken the exports down
                if task.arguments["disconnect_writers"]:
                    _fence(entries, term)
                tasks.progress(task, phase="SAFETY")
                safety = _safety_snapshot(domain, task, term=term, actor=actor)
                detail["safety_snapshot"] = safety.display_id if safety else ""
                tasks.progress(task, phase="RESTORE")
                _overwrite(domain, found, entries, disconnect=task.arguments["disconnect_writers"], term=term)
        text = f" The state before is kept as snapshot {safety.display_id}." if safety else ""
        domains.happened(domain, "restore_completed", f"{domain.name} was restored to {snapshot.display_id}.{text}")
        tasks.succeed(task, message=f"{len(entries)} entities were restored.{text}")


def _safety_snapshot(domain: ProtectionDomain, task: Task, *, term: int | None, actor: Actor) -> Snapshot | None:
    """None when nothing of the domain is left to save."""
    order = taking.Order(uuid=uuid.uuid5(task.pk, "safety"), kind=SnapshotKind.SAFETY, retention=SAFETY_KEPT)
    if not domain.entities.exclude(vm=None, volume_group=None, stored_file=None).exists():
        return None
    return taking.take(domain, order, term=term, actor=actor)


def _in_engine(entries: Sequence[EntityEntry]) -> list[str]:
    known = {str(disk["vdisk"]) for disk in engine().vdisks()}
    return [key for key in (str(disk.uuid) for entry in entries for disk in entry.disks) if key in known]


def _fence(entries: Sequence[EntityEntry], term: int | None) -> None:
    """Cut the clients of the chosen entities off, so that nothing is written after the safety snapshot."""
    keys = _in_engine(entries)
    if keys:
        engine().set_role(keys, "down", reason="being restored", term=term)


@contextmanager
def _exports_up_afterwards(entries: Sequence[EntityEntry], term: int | None) -> Iterator[None]:
    """Whatever happens in between, the disks serve again: restored, or as they were."""
    try:
        yield
    finally:
        keys = _in_engine(entries)
        if keys:
            engine().set_role(keys, "active", reason="", term=term)


def _overwrite(
    domain: ProtectionDomain, found: Manifest, entries: Sequence[EntityEntry], *, disconnect: bool, term: int | None
) -> None:
    """Engine first, then rows. Without the fence the engine itself refuses when a writer came in the meantime."""
    existing = {key: key for key in _in_engine(entries)}
    if existing:
        engine().restore(str(found.snapshot_uuid), existing, disconnect_writers=disconnect, term=term)
    with transaction.atomic():
        _rows(domain, found, entries, set(existing), term)


def _rows(
    domain: ProtectionDomain, found: Manifest, entries: Sequence[EntityEntry], present: set[str], term: int | None
) -> None:
    names = dict(VirtualDisk.objects.filter(pk__in=found.disk_ids).values_list("uuid", "export_name"))
    for disk in (disk for entry in entries for disk in entry.disks):
        if str(disk.uuid) not in present:
            names[disk.uuid] = recover.clone_down(found, disk, term)
        elif disk.uuid not in names:
            names[disk.uuid] = str(engine().vdisk(str(disk.uuid))["export_name"])
    for entity, entry in zip(recover.put_back_rows(found, entries, names), entries, strict=True):
        if membership.of(entity) is None:
            domain.entities.filter(
                name=entry.name, entity_type=entry.type, vm=None, volume_group=None, stored_file=None
            ).delete()
            group, _ = domain.groups.get_or_create(name=entry.group, defaults={"app_consistent": entry.app_consistent})
            membership.join(domain, group, entity)


def clone(
    snapshot: Snapshot,
    *,
    entity_uuids: Iterable[uuid.UUID | str] | None = None,
    vm_prefix: str = "",
    volume_group_prefix: str = "",
    file_prefix: str = "",
    actor: Actor,
    idempotency_key: str | None = None,
) -> Task:
    """Create new entities named prefix + name (files: prefix path + path); possible on an inactive domain as well.

    They come up powered off and unprotected. A name that is taken refuses the whole order.
    """
    from dataprotection.tasks import restore_clone

    with audit.order("restore.clone", actor=actor, object_type="snapshot", object_name=snapshot.display_id) as detail:
        known = tasks.find_by_key(idempotency_key)
        if known is not None:
            return known
        _, entries = _chosen(snapshot, entity_uuids)
        prefixes = {
            EntityType.VM: naming.prefix(vm_prefix, field="vm_prefix"),
            EntityType.VOLUME_GROUP: naming.prefix(volume_group_prefix, field="volume_group_prefix"),
            EntityType.FILE: naming.file_path(file_prefix, field="file_prefix") if file_prefix else "",
        }
        names = {str(entry.uuid): _new_name(entry, prefixes[EntityType(entry.type)]) for entry in entries}
        if len(set(names.values())) < len(names):
            raise InvalidInput("entities", "Two of the new entities would have the same name.")
        detail["names"] = list(names.values())
        task = _task("restore.clone", snapshot, entries, actor, idempotency_key)
        task.arguments["names"] = names
        task.save(update_fields=["arguments"])
        tasks.after_commit(restore_clone.delay, str(task.pk), current_term())
    return task


def run_clone(task_uuid: str, *, term: int | None) -> None:
    """The body of the task; one transaction per entity, so that a second run goes on where the first stopped."""
    with tasks.running(task_uuid) as task:
        if task is None:
            return
        snapshot = _live(task.arguments["snapshot"])
        found, entries = _chosen(snapshot, task.arguments["entities"])
        made = {}
        for entry in entries:
            tasks.progress(task, phase="CLONE", message=entry.name)
            with transaction.atomic():
                key = uuid.uuid5(task.pk, str(entry.uuid))
                entity = recover.clone(found, entry, key=key, name=task.arguments["names"][str(entry.uuid)])
                made[str(entity.uuid)] = entity.name
        if snapshot.domain is not None:
            text = f"{len(made)} new entities were created from snapshot {snapshot.display_id}."
            domains.happened(snapshot.domain, "restore_completed", text)
        tasks.succeed(task, message=f"{len(made)} entities were created.", result={"entities": made})


def _chosen(snapshot: Snapshot, entity_uuids: Iterable[uuid.UUID | str] | None) -> tuple[Manifest, list[EntityEntry]]:
    _refuse_expired(snapshot)
    found = manifest.read(snapshot.manifest)
    return found, found.chosen(entity_uuids)


def _live(snapshot_uuid: str) -> Snapshot:
    row = Snapshot.objects.select_related("domain").filter(pk=snapshot_uuid).first()
    if row is None:
        raise Conflict("snapshot_gone", "The snapshot was deleted in the meantime.", "Choose another one.")
    return row


def _refuse_expired(snapshot: Snapshot) -> None:
    if snapshot.state in {SnapshotState.EXPIRED, SnapshotState.DELETING}:
        raise Conflict(
            "snapshot_expired",
            f"Snapshot {snapshot.display_id} expired at {snapshot.expires_at or timezone.now():%Y-%m-%d %H:%M} UTC.",
            "Choose a newer snapshot; give this one a new retention first if it is still listed.",
        )


def _active_domain(snapshot: Snapshot) -> ProtectionDomain:
    domain = snapshot.domain
    if domain is None:
        raise Conflict("no_domain", "The protection domain of this snapshot is gone.", "Create new entities instead.")
    domain.refresh_from_db()
    if domain.mode != "active":
        raise Conflict(
            "domain_inactive",
            f"{domain.name} is inactive here; nothing can be overwritten.",
            "Create new entities, or restore on the active site.",
        )
    domains.refuse_unusable(domain)
    if domain.stale_state == StaleState.ACTIVE_ELSEWHERE:
        raise Conflict(
            "active_on_multiple_sites",
            f"{domain.name} is active on {domain.peer_active_site or 'another site'} as well; the data here is stale.",
            "Deactivate it here, then restore on the other site.",
        )
    return domain


def _refuse_foreign(domain: ProtectionDomain, entries: Sequence[EntityEntry]) -> None:
    """An entity that another domain protects by now is not overwritten from here."""
    for entry in entries:
        model: Any = recover.MODELS[entry.type]
        entity = model._default_manager.filter(pk=entry.uuid).first()
        known = membership.of(entity) if entity is not None else None
        if known is not None and known.domain_id != domain.pk:
            raise Conflict(
                "already_protected",
                f"{entry.name} is protected by {known.domain.name} now.",
                "Unprotect it there first, or create new entities.",
            )


def _refuse_writers(entries: Sequence[EntityEntry]) -> None:
    mine = {str(disk.uuid): entry.name for entry in entries for disk in entry.disks}
    for disk in engine().vdisks():
        if disk["vdisk"] in mine and disk["connections"]:
            raise Conflict(
                "writer_connected",
                f"A client has a disk of {mine[disk['vdisk']]} open.",
                "Power the VM off, or confirm that its clients are to be disconnected.",
            )


def _new_name(entry: EntityEntry, prefix: str) -> str:
    name = prefix + entry.name
    model = recover.MODELS[entry.type]
    if entry.type == EntityType.FILE:
        naming.file_path(name, field="file_prefix")
        naming.must_be_new(model, "path", name, "file")
    else:
        naming.entity_name(name, field=f"{entry.type}_prefix")
        naming.must_be_new(model, "name", name, "VM" if entry.type == EntityType.VM else "volume group")
    return name


def _task(
    kind: str, snapshot: Snapshot, entries: Sequence[EntityEntry], actor: Actor, idempotency_key: str | None
) -> Task:
    return tasks.create(
        kind,
        actor=actor,
        object_type="snapshot",
        object_name=f"{snapshot.domain_name} {snapshot.display_id}",
        object_id=snapshot.uuid,
        arguments={"snapshot": str(snapshot.uuid), "entities": [str(entry.uuid) for entry in entries]},
        idempotency_key=idempotency_key,
    )
