# SPDX-License-Identifier: Apache-2.0
"""Making entities out of a manifest: in place with their own uuids, or as new ones. No audit rows here."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.db.models import Model

from dataprotection.choices import EntityType, PowerState
from dataprotection.models import VM, StorageContainer, StoredFile, VirtualDisk, VolumeGroup, VolumeGroupAttachment
from dataprotection.services import disks, vms
from dataprotection.services.disks import NewDisk
from dataprotection.services.manifest import DiskEntry, EntityEntry, Manifest
from dataprotection.services.membership import Entity
from prism.core.engine import engine
from prism.core.services import alerts
from prism.core.services.sites import this_site
from replication.models import RemoteSite
from stargate.errors import NotFound

MODELS: dict[str, type[VM] | type[VolumeGroup] | type[StoredFile]] = {
    EntityType.VM: VM,
    EntityType.VOLUME_GROUP: VolumeGroup,
    EntityType.FILE: StoredFile,
}


def container_for(name: str, origin: RemoteSite | None) -> StorageContainer:
    """Where an entity of container `name` goes: as its origin site is mapped, or the same name, made when missing."""
    mapped = _inverse(origin.container_map if origin else {}).get(name, name)
    return StorageContainer.objects.get_or_create(name=mapped)[0]


def origin_of(found: Manifest) -> RemoteSite | None:
    """The remote site that a manifest comes from; None for one of our own, or a site that is no longer known."""
    if found.site_uuid == this_site().uuid:
        return None
    return RemoteSite.objects.filter(site_uuid=found.site_uuid).first()


def put_back_disks(found: Manifest, entries: Sequence[EntityEntry], *, term: int | None) -> dict[uuid.UUID, str]:
    """Bring the vDisks of `entries` to the snapshot, exports down; returns the export name of each.

    A vDisk that already serves here was put back by an earlier, interrupted run and is left alone: guests may have
    written to it since.
    """
    names: dict[uuid.UUID, str] = {}
    old: dict[str, str] = {}
    for disk in (disk for entry in entries for disk in entry.disks):
        key = str(disk.uuid)
        try:
            state = engine().vdisk(key)
        except NotFound:
            names[disk.uuid] = clone_down(found, disk, term)
            continue
        names[disk.uuid] = str(state["export_name"])
        if state["role"] != "active":
            old[key] = key
    if old:
        engine().set_role(list(old), "down", reason="being restored", term=term)
        engine().restore(str(found.snapshot_uuid), old, disconnect_writers=True, term=term)
    return names


def clone_down(found: Manifest, disk: DiskEntry, term: int | None) -> str:
    """A vDisk with its own uuid from the snapshot, export down; returns the export name it got."""
    taken = {str(known["export_name"]) for known in engine().vdisks()}
    name = disk.export_name or f"disk-{disk.uuid}"
    if name in taken or VirtualDisk.objects.filter(export_name=name).exists():
        name = f"{name[:240]}-{str(disk.uuid)[:8]}"
    engine().vdisk_create(
        str(disk.uuid),
        disk.size_bytes,
        export_name=name,
        role="down",
        source={"snapshot": str(found.snapshot_uuid), "disk": str(disk.uuid)},
        term=term,
    )
    return name


def put_back_rows(found: Manifest, entries: Sequence[EntityEntry], names: dict[uuid.UUID, str]) -> list[Entity]:
    """The rows of `entries` as they were, with their own uuids, powered off. Call inside a transaction."""
    origin = origin_of(found)
    made: list[Entity] = []
    for entry in entries:
        entity = _entity_row(entry, entry.uuid, _free_name(entry, entry.name), container_for(entry.container, origin))
        made.append(entity)
        if isinstance(entity, VM):
            entity.nics.all().delete()
            _nics(entity, entry, origin, keep_macs=True)
        _disk_rows(entity, entry, names)
    return made


def _entity_row(entry: EntityEntry, key: uuid.UUID, name: str, container: StorageContainer) -> Entity:
    values: dict[str, Any] = {"container": container}
    values["path" if entry.type == EntityType.FILE else "name"] = name
    if entry.type != EntityType.FILE:
        values["description"] = entry.description
    if entry.type == EntityType.VM:
        values.update(vcpus=entry.vcpus, memory_bytes=entry.memory_bytes, power_state=PowerState.OFF)
    manager: Any = MODELS[entry.type]._default_manager
    entity: Entity = manager.update_or_create(pk=key, defaults=values)[0]
    return entity


def _disk_rows(entity: Entity, entry: EntityEntry, names: dict[uuid.UUID, str]) -> None:
    """Exactly the disks of the entry; what was attached since leaves the entity and the engine."""
    wanted = [disk.uuid for disk in entry.disks]
    owned = VirtualDisk.objects.filter(**{_owner_field(entity): entity})
    disks.delete_disks(list(owned.exclude(pk__in=wanted)))
    VirtualDisk.objects.filter(pk__in=wanted).delete()
    for disk in entry.disks:
        new = NewDisk(disk.size_bytes, bus=disk.bus, index=disk.index, label=disk.label)
        disks.create_row(entity, new, disk_uuid=disk.uuid, export_name=names[disk.uuid])


def clone(found: Manifest, entry: EntityEntry, *, key: uuid.UUID, name: str) -> Entity:
    """A new entity with clones of the disks, powered off, unprotected. Harmless when repeated."""
    model: Any = MODELS[entry.type]
    known: Entity | None = model._default_manager.filter(pk=key).first()
    if known is not None:
        return known
    origin = origin_of(found)
    entity = _entity_row(entry, key, name, container_for(entry.container, origin))
    if isinstance(entity, VM):
        _nics(entity, entry, origin, keep_macs=False)
    rows = []
    for disk in entry.disks:
        new = NewDisk(disk.size_bytes, bus=disk.bus, index=disk.index, label=disk.label)
        rows.append((disks.create_row(entity, new, disk_uuid=uuid.uuid5(key, str(disk.uuid))), disk))
    for row, disk in rows:
        disks.create_in_engine(row, source={"snapshot": str(found.snapshot_uuid), "disk": str(disk.uuid)})
    return entity


def remove_local(entities: Sequence[Entity]) -> None:
    """Take entities off this site's inventory; their vDisks stay in the engine, down, for the way back."""
    for entity in entities:
        if isinstance(entity, VolumeGroup):
            VolumeGroupAttachment.objects.filter(volume_group=entity).delete()
        VirtualDisk.objects.filter(**{_owner_field(entity): entity}).delete()
        entity.delete()


def _owner_field(entity: Entity) -> str:
    return {VM: "vm", VolumeGroup: "volume_group", StoredFile: "stored_file"}[type(entity)]


def _free_name(entry: EntityEntry, name: str) -> str:
    """`name`, or a variant when another entity has it: recovery after a disaster must not stop at a name."""
    model: type[Model] = MODELS[entry.type]
    field = "path" if entry.type == EntityType.FILE else "name"
    manager: Any = model._default_manager
    if manager.filter(**{field: name}).exclude(pk=entry.uuid).exists():
        return f"{name[:60]}-{str(entry.uuid)[:8]}"
    return name


def _nics(vm: VM, entry: EntityEntry, origin: RemoteSite | None, *, keep_macs: bool) -> None:
    networks = _inverse(origin.network_map if origin else {})
    for network, mac in entry.nics:
        here = network if origin is None else networks.get(network, "")
        if network and not here:
            alerts.raise_alert(
                "network_mapping_missing",
                f"The network {network} of {vm.name} has no counterpart here.",
                object_type="vm",
                object_name=vm.name,
                object_id=vm.uuid,
                dedup=network,
            )
        vms.create_nic(vm, here, mac=mac if keep_macs else None)


def _inverse(mapping: dict[str, str]) -> dict[str, str]:
    """A site's maps say name here -> name there; a manifest from there needs the other way."""
    return {str(there): str(here) for here, there in mapping.items()}
