# SPDX-License-Identifier: Apache-2.0
"""Disks of VMs and volume groups: a row here and a vDisk of the same uuid in the engine."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.conf import settings

from dataprotection.choices import Bus
from dataprotection.models import VM, StoredFile, VirtualDisk, VolumeGroup
from dataprotection.services.fencing import current_term
from prism.core.actor import Actor
from prism.core.engine import engine
from prism.core.exceptions import Conflict, InvalidInput
from prism.core.services import audit
from stargate.errors import AlreadyExists
from stargate.nbd.listen import is_routable

Owner = VM | VolumeGroup | StoredFile
DISKS_MAX = 64
SIZE_BYTES_MAX = 1 << 46
"""64 TiB, the largest vDisk."""


@dataclass(frozen=True)
class NewDisk:
    """What to add. `index` None = first free place on `bus`; `source` = {"snapshot", "disk"}: a clone of it.

    `write_through`: every write is answered when it is stored; slower, and no re-open after a host death.
    """

    size_bytes: int
    bus: str = Bus.SCSI
    index: int | None = None
    label: str = ""
    source: dict[str, str] | None = None
    write_through: bool = False


def add(owner: VM | VolumeGroup, new: NewDisk, *, actor: Actor) -> VirtualDisk:
    """Attach a new disk; it is served over NBD when this returns."""
    with audit.order("disk.add", actor=actor, object_type=owner.entity_type, object_name=owner.name) as detail:
        disk = create_row(owner, new)
        detail.update(disk=str(disk.uuid), size_bytes=disk.size_bytes)
        if new.write_through:
            detail["write_through"] = True
        create_in_engine(disk, source=new.source, write_through=new.write_through)
    return disk


def resize(disk: VirtualDisk, *, size_bytes: int, actor: Actor) -> VirtualDisk:
    """Grow a disk. Shrinking would cut off data and is refused."""
    name = disk.owner.name
    with audit.order("disk.resize", actor=actor, object_type="disk", object_name=name) as detail:
        detail.update(disk=str(disk.uuid), size_bytes=size_bytes, before=disk.size_bytes)
        check_size(size_bytes)
        if size_bytes < disk.size_bytes:
            raise InvalidInput(
                "size_bytes", "A disk can only grow; shrinking would cut off data.", "Enter a larger size."
            )
        disk.size_bytes = size_bytes
        disk.save(update_fields=["size_bytes"])
        engine().vdisk_resize(str(disk.uuid), size_bytes, term=current_term())
    return disk


def move(
    disk: VirtualDisk, *, owner: VM | VolumeGroup, bus: str | None = None, index: int | None = None, actor: Actor
) -> VirtualDisk:
    """Detach from its owner, attach to `owner` (or elsewhere on the same). Bytes and NBD name stay."""
    with audit.order("disk.move", actor=actor, object_type=owner.entity_type, object_name=owner.name) as detail:
        detail.update(disk=str(disk.uuid), before=disk.owner.name)
        if disk.stored_file_id is not None:
            raise Conflict("disk_of_file", "The content of a file cannot be moved away.", "Copy it instead.")
        _refuse_writers(disk)
        wanted_bus = _checked_bus(bus or disk.bus)
        disk.vm = owner if isinstance(owner, VM) else None
        disk.volume_group = owner if isinstance(owner, VolumeGroup) else None
        disk.bus, disk.index = wanted_bus, _place(owner, wanted_bus, index)
        disk.save(update_fields=["vm", "volume_group", "bus", "index"])
    return disk


def reopen(disk: VirtualDisk, *, actor: Actor) -> VirtualDisk:
    """Serve a disk again that was writing when this machine died; its guest does not run any more."""
    with audit.order("disk.reopen", actor=actor, object_type="disk", object_name=disk.owner.name) as detail:
        detail["disk"] = str(disk.uuid)
        if not engine().reopen([str(disk.uuid)], term=current_term())["reopened"]:
            raise Conflict("not_waiting", "This disk does not wait to be opened again.", "Nothing is to be done.")
    return disk


def set_write_through(disk: VirtualDisk, *, enabled: bool, actor: Actor) -> VirtualDisk:
    """Whether every write is answered only when it is stored."""
    with audit.order("disk.write_through", actor=actor, object_type="disk", object_name=disk.owner.name) as detail:
        detail.update(disk=str(disk.uuid), enabled=enabled)
        engine().set_write_through([str(disk.uuid)], enabled, term=current_term())
    return disk


def remove(disk: VirtualDisk, *, actor: Actor) -> None:
    """Delete a disk and its bytes; snapshots keep theirs."""
    with audit.order("disk.remove", actor=actor, object_type="disk", object_name=disk.owner.name) as detail:
        detail["disk"] = str(disk.uuid)
        if disk.stored_file_id is not None:
            raise Conflict("disk_of_file", "A file cannot lose its content.", "Delete the file.")
        delete_disks([disk])


def nbd_uri(disk: VirtualDisk) -> str:
    """Where clients reach the disk."""
    return nbd_uri_of(disk.export_name)


def nbd_uri_of(export_name: str) -> str:
    """Where clients reach an export: `nbds` where they need a certificate (docs/nbd.md)."""
    config = getattr(settings, "SITE_CONFIG", None)
    host, port = (config.listen, config.ports.get("nbd", 10809)) if config else ("127.0.0.1", 10809)
    scheme = "nbds" if is_routable(host) else "nbd"
    return f"{scheme}://{host}:{port}/{quote(export_name, safe='')}"


# -- shared with the other services; no audit rows, the caller's order has one ----------------------------------------


def create_row(owner: Owner, new: NewDisk, *, disk_uuid: uuid.UUID | None = None, export_name: str = "") -> VirtualDisk:
    """The row of a new disk, checked; `disk_uuid` and `export_name` are given when a disk is recovered."""
    check_size(new.size_bytes)
    bus = _checked_bus(new.bus)
    if len(new.label) > 75:
        raise InvalidInput("label", "A disk label has at most 75 characters.")
    fields: dict[str, Any] = {
        "vm": owner if isinstance(owner, VM) else None,
        "volume_group": owner if isinstance(owner, VolumeGroup) else None,
        "stored_file": owner if isinstance(owner, StoredFile) else None,
    }
    index = 0 if isinstance(owner, StoredFile) else _place(owner, bus, new.index)
    key = disk_uuid or uuid.uuid4()
    name = export_name or _export_name(owner, bus, index)
    if VirtualDisk.objects.filter(export_name=name).exists():
        name = f"{name}-{str(key)[:8]}"
    return VirtualDisk.objects.create(
        uuid=key, size_bytes=new.size_bytes, bus=bus, index=index, label=new.label, export_name=name, **fields
    )


def create_in_engine(
    disk: VirtualDisk, *, source: dict[str, str] | None = None, role: str = "active", write_through: bool = False
) -> None:
    """The vDisk of a row; repeating it is harmless. Call it last in a transaction, so that a failure leaves no row."""
    try:
        _vdisk_create(disk, source, role, write_through)
    except AlreadyExists:
        # The engine still holds a disk of that name which left with its domain.
        disk.export_name = f"{disk.export_name[:240]}-{str(disk.uuid)[:8]}"
        disk.save(update_fields=["export_name"])
        _vdisk_create(disk, source, role, write_through)


def _vdisk_create(disk: VirtualDisk, source: dict[str, str] | None, role: str, write_through: bool) -> None:
    engine().vdisk_create(
        str(disk.uuid),
        disk.size_bytes,
        export_name=disk.export_name,
        role=role,
        source=source,
        write_through=write_through,
        term=current_term(),
    )


def delete_disks(disks: list[VirtualDisk]) -> None:
    """Rows first, engine last: a failure in between leaves bytes without owner, never a row without bytes."""
    for disk in disks:
        _refuse_writers(disk)
    keys = [str(disk.uuid) for disk in disks]
    VirtualDisk.objects.filter(pk__in=keys).delete()
    for key in keys:
        engine().vdisk_delete(key, term=current_term())


def check_size(size_bytes: int) -> None:
    if not 0 < size_bytes <= SIZE_BYTES_MAX:
        raise InvalidInput("size_bytes", "A disk has 1 byte to 64 TiB.", "Enter a size in that range.")


def _refuse_writers(disk: VirtualDisk) -> None:
    peers = [str(found.get("peer", "?")) for found in engine().connections(str(disk.uuid))]
    if peers:
        raise Conflict(
            "writer_connected",
            f"The disk {disk.export_name} is in use by {', '.join(peers[:3])}.",
            "Power off the VM or disconnect the client first.",
        )


def _checked_bus(bus: str) -> str:
    if bus not in Bus.values:
        raise InvalidInput("bus", f"There is no bus {bus!r}.", f"Use one of {', '.join(Bus.values)}.")
    return bus


def _place(owner: Owner, bus: str, index: int | None) -> int:
    if isinstance(owner, StoredFile):
        return 0
    taken = set(owner.disks.filter(bus=bus).values_list("index", flat=True))
    if len(taken) >= DISKS_MAX:
        raise Conflict("too_many_disks", f"{owner.name} has {DISKS_MAX} disks on {bus} already.", "Use another bus.")
    if index is None:
        return next(free for free in range(DISKS_MAX) if free not in taken)
    if not 0 <= index < DISKS_MAX:
        raise InvalidInput("index", f"A place on a bus is 0 to {DISKS_MAX - 1}.")
    if index in taken:
        raise InvalidInput("index", f"{owner.name} has a disk at {bus}.{index} already.", "Choose another place.")
    return index


def _export_name(owner: Owner, bus: str, index: int) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", owner.name).strip("-")[:150]
    kind = {"vm": "vm", "volume_group": "vg", "file": "file"}[owner.entity_type]
    return f"{kind}-{plain}" if kind == "file" else f"{kind}-{plain}-{bus}{index}"
