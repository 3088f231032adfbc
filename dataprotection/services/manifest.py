# SPDX-License-Identifier: Apache-2.0
"""The manifest that every snapshot carries: enough to recover its entities with the source site gone.

Format 1. Written here, read by `read`, which checks everything: a manifest may come from a peer.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.dateparse import parse_datetime

from dataprotection.choices import Bus, Consistency, EntityType
from dataprotection.models import VM, ProtectedEntity, ProtectionDomain, Schedule, StoredFile, VirtualDisk, VolumeGroup
from dataprotection.services import naming
from dataprotection.services.disks import check_size
from prism.core.exceptions import InvalidInput, Refused
from prism.core.models import Site

FORMAT = 1
ENTITIES_MAX = 10_000
GENERATION_MAX = 1 << 40
"""No site activates a domain that often: room is left for `phases.next_generation`."""

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


def build(
    domain: ProtectionDomain,
    members: Iterable[ProtectedEntity],
    *,
    site: Site,
    snapshot: uuid.UUID,
    local_id: int,
    created_at: datetime,
    mode_generation: int | None = None,
) -> dict[str, Any]:
    """Describe `members` as they are now. `mode_generation` None = the domain's own."""
    rows = list(members)
    entities = {row.pk: _entity(row) for row in rows}
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        group = groups.setdefault(
            row.group.name, {"name": row.group.name, "app_consistent": row.group.app_consistent, "entities": []}
        )
        group["entities"].append(entities[row.pk]["uuid"])
    return {
        "format": FORMAT,
        "domain": {
            "uuid": str(domain.uuid),
            "name": domain.name,
            "mode_generation": domain.mode_generation if mode_generation is None else mode_generation,
            "min_snapshots_to_retain": domain.min_snapshots_to_retain,
        },
        "site": {
            "uuid": str(site.uuid),
            "name": site.name,
            "cluster_id": site.cluster_id,
            "incarnation_id": site.incarnation_id,
        },
        "snapshot": {
            "uuid": str(snapshot),
            "local_id": local_id,
            "created_at": created_at.isoformat(),
            "consistency": Consistency.CRASH.value,
        },
        "groups": list(groups.values()),
        "entities": list(entities.values()),
        "fingerprinting": all(row.target.container.fingerprinting for row in rows if row.target),
        "schedules": schedules_of(domain),
    }


def schedules_of(domain: ProtectionDomain) -> list[dict[str, Any]]:
    """The schedules in the form in which they travel; sites by their own uuid."""
    return [_schedule(row) for row in domain.schedules.prefetch_related("remotes__site")]


def _schedule(row: Schedule) -> dict[str, Any]:
    remotes = [{"site_uuid": str(found.site.site_uuid), "keep": found.keep} for found in row.remotes.all()]
    return {
        "uuid": str(row.uuid),
        "type": row.type,
        "every_nth": row.every_nth,
        "start_at": row.start_at.isoformat(),
        "end_at": row.end_at.isoformat() if row.end_at else None,
        "timezone": row.timezone,
        "app_consistent": row.app_consistent,
        "local_keep": row.local_keep,
        "local_ticked": row.local_ticked,
        "suspended": row.suspended,
        "remotes": remotes,
    }


def _entity(row: ProtectedEntity) -> dict[str, Any]:
    target = row.target
    if target is None:
        raise LookupError(f"{row.name} is missing")
    found: dict[str, Any] = {
        "type": row.entity_type,
        "uuid": str(target.uuid),
        "name": target.name,
        "container": target.container.name,
        "attributes": {},
        "disks": [],
        "nics": [],
        "attachments": [],
    }
    if isinstance(target, StoredFile):
        found["disks"] = [_disk(target.disk)]
        return found
    found["disks"] = [_disk(disk) for disk in target.disks.all()]
    found["attributes"] = {"description": target.description}
    if isinstance(target, VM):
        found["attributes"].update(
            vcpus=target.vcpus, memory_bytes=target.memory_bytes, hypervisor=str(target.hypervisor)
        )
        found["nics"] = [{"network": nic.network, "mac": nic.mac} for nic in target.nics.all()]
    if isinstance(target, VolumeGroup):
        found["attachments"] = [str(row.vm_id) for row in target.attachments.all()]
    return found


def _disk(disk: VirtualDisk) -> dict[str, Any]:
    return {
        "uuid": str(disk.uuid),
        "size_bytes": disk.size_bytes,
        "bus": disk.bus,
        "index": disk.index,
        "label": disk.label,
        "export_name": disk.export_name,
    }


@dataclass(frozen=True)
class DiskEntry:
    uuid: uuid.UUID
    size_bytes: int
    bus: str
    index: int
    label: str
    export_name: str


@dataclass(frozen=True)
class EntityEntry:
    """One entity as it was. `name` is the path of a file."""

    type: str
    uuid: uuid.UUID
    name: str
    container: str
    group: str
    app_consistent: bool
    description: str
    vcpus: int
    memory_bytes: int
    disks: tuple[DiskEntry, ...]
    nics: tuple[tuple[str, str], ...]  # (network, mac)


@dataclass(frozen=True)
class Manifest:
    """A checked manifest; `raw` is what it was read from."""

    domain_uuid: uuid.UUID
    domain_name: str
    mode_generation: int
    min_snapshots_to_retain: int
    site_uuid: uuid.UUID
    site_name: str
    cluster_id: int
    incarnation_id: int
    snapshot_uuid: uuid.UUID
    local_id: int
    created_at: datetime
    entities: tuple[EntityEntry, ...]
    schedules: tuple[dict[str, Any], ...]
    raw: dict[str, Any]

    @property
    def composite_id(self) -> str:
        return f"{self.cluster_id}:{self.incarnation_id}:{self.local_id}"

    @property
    def size_bytes(self) -> int:
        return sum(disk.size_bytes for entity in self.entities for disk in entity.disks)

    @property
    def disk_ids(self) -> list[str]:
        return [str(disk.uuid) for entity in self.entities for disk in entity.disks]

    def chosen(self, entity_uuids: Iterable[uuid.UUID | str] | None) -> list[EntityEntry]:
        """The entities with these uuids (None = all); raises InvalidInput for one that is not in it."""
        if entity_uuids is None:
            return list(self.entities)
        known = {entity.uuid: entity for entity in self.entities}
        wanted = [uuid.UUID(str(key)) for key in entity_uuids]
        for key in wanted:
            if key not in known:
                raise InvalidInput("entities", f"The snapshot does not hold an entity {key}.")
        if not wanted:
            raise InvalidInput("entities", "No entity is selected.", "Select at least one.")
        return [known[key] for key in dict.fromkeys(wanted)]


def read(raw: Any) -> Manifest:
    """Check a manifest, whoever wrote it; raises InvalidInput."""
    try:
        return _read(raw)
    except Refused as error:
        raise InvalidInput("manifest", f"This is not a snapshot manifest: {error.message}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidInput("manifest", f"This is not a snapshot manifest: {type(error).__name__} {error}.") from error


def _read(raw: Any) -> Manifest:
    if raw["format"] != FORMAT:
        raise ValueError(f"format {raw['format']!r}, this release reads {FORMAT}")
    domain, site, snapshot = raw["domain"], raw["site"], raw["snapshot"]
    if len(raw["entities"]) > ENTITIES_MAX:
        raise ValueError("too many entities")
    group_of = {
        str(key): (str(group["name"])[: naming.PATH_MAX], group["app_consistent"] is True)
        for group in raw["groups"]
        for key in group["entities"]
    }
    return Manifest(
        domain_uuid=uuid.UUID(domain["uuid"]),
        domain_name=naming.domain_name(domain["name"]),
        mode_generation=_generation(domain["mode_generation"]),
        min_snapshots_to_retain=max(1, _number(domain.get("min_snapshots_to_retain", 1))),
        site_uuid=uuid.UUID(site["uuid"]),
        site_name=str(site["name"])[:75],
        cluster_id=_number(site["cluster_id"]),
        incarnation_id=_number(site["incarnation_id"]),
        snapshot_uuid=uuid.UUID(snapshot["uuid"]),
        local_id=_number(snapshot["local_id"]),
        created_at=_moment(snapshot["created_at"]),
        entities=tuple(_read_entity(entry, group_of) for entry in raw["entities"]),
        schedules=tuple(dict(entry) for entry in raw["schedules"][:100]),
        raw=raw,
    )


def _read_entity(entry: Any, group_of: dict[str, tuple[str, bool]]) -> EntityEntry:
    kind = EntityType(entry["type"])
    name = naming.file_path(entry["name"]) if kind == EntityType.FILE else naming.entity_name(entry["name"])
    group, app_consistent = group_of.get(entry["uuid"], (name, False))
    attributes = entry["attributes"]
    disks = tuple(_read_disk(disk) for disk in entry["disks"])
    if kind == EntityType.FILE and len(disks) != 1:
        raise ValueError("a file with another number of disks than one")
    return EntityEntry(
        type=kind.value,
        uuid=uuid.UUID(entry["uuid"]),
        name=name,
        container=naming.domain_name(entry["container"]),
        group=group,
        app_consistent=app_consistent,
        description=str(attributes.get("description", ""))[:10_000],
        vcpus=min(1024, max(1, _number(attributes.get("vcpus", 1)))),
        memory_bytes=_number(attributes.get("memory_bytes", 1 << 30)),
        disks=disks,
        nics=tuple((str(nic["network"])[:75], _mac(nic["mac"])) for nic in entry["nics"][:64]),
    )


def _read_disk(entry: Any) -> DiskEntry:
    size = _number(entry["size_bytes"])
    check_size(size)
    return DiskEntry(
        uuid=uuid.UUID(entry["uuid"]),
        size_bytes=size,
        bus=Bus(entry["bus"]).value,
        index=_number(entry["index"]),
        label=str(entry["label"])[:75],
        export_name=str(entry.get("export_name", ""))[:255],
    )


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is not a number of ours")
    return value


def _generation(value: Any) -> int:
    if _number(value) > GENERATION_MAX:
        raise ValueError(f"{value!r} activations of a protection domain")
    return _number(value)


def _mac(value: Any) -> str:
    if not _MAC.fullmatch(str(value).lower()):
        raise ValueError("a network address that is none")
    return str(value).lower()


def _moment(value: Any) -> datetime:
    moment = parse_datetime(str(value))
    if moment is None or moment.tzinfo is None:
        raise ValueError("a time without zone")
    return moment
