# SPDX-License-Identifier: Apache-2.0
"""What a snapshot's manifest shows on a page.

A received one was written by another site: nothing in it is taken for granted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dataprotection.choices import EntityType
from dataprotection.models import Snapshot

LISTED_MAX = 2000


@dataclass(frozen=True)
class ManifestEntity:
    """One entity of a snapshot."""

    uuid: str
    type: str
    name: str
    size_bytes: int
    disks: int
    group: str = ""
    images: tuple[tuple[str, int], ...] = ()
    """Uuid and size of each disk."""

    @property
    def type_label(self) -> str:
        """VM, Volume Group or File."""
        return EntityType(self.type).label if self.type in EntityType.values else self.type


@dataclass(frozen=True)
class ManifestGroup:
    """One consistency group of a snapshot."""

    name: str
    app_consistent: bool
    entities: list[ManifestEntity]


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)][:LISTED_MAX] if isinstance(value, list) else []


def _entity(raw: dict[str, Any], group: str) -> ManifestEntity | None:
    try:
        key = str(UUID(str(raw.get("uuid"))))
    except ValueError:
        return None
    disks = _dicts(raw.get("disks"))
    sizes = [disk["size_bytes"] for disk in disks if isinstance(disk.get("size_bytes"), int)]
    name = str(raw.get("name", ""))[:1024]
    return ManifestEntity(key, str(raw.get("type", "")), name, sum(sizes), len(disks), group, _images(disks))


def _images(disks: list[dict[str, Any]]) -> tuple[tuple[str, int], ...]:
    found = []
    for disk in disks:
        try:
            found.append((str(UUID(str(disk.get("uuid")))), int(disk.get("size_bytes") or 0)))
        except (TypeError, ValueError):
            continue
    return tuple(found)


def _group_names(manifest: dict[str, Any]) -> dict[str, str]:
    names: dict[str, str] = {}
    for group in _dicts(manifest.get("groups")):
        for member in group.get("entities") or []:
            key = member.get("uuid") if isinstance(member, dict) else member
            names[str(key)] = str(group.get("name", ""))[:1024]
    return names


def entities_of(snapshot: Snapshot) -> list[ManifestEntity]:
    """All entities, by name."""
    manifest = snapshot.manifest if isinstance(snapshot.manifest, dict) else {}
    groups = _group_names(manifest)
    found = [_entity(raw, groups.get(str(raw.get("uuid")), "")) for raw in _dicts(manifest.get("entities"))]
    return sorted((entity for entity in found if entity), key=lambda entity: entity.name)


def groups_of(snapshot: Snapshot) -> list[ManifestGroup]:
    """Entities by consistency group."""
    manifest = snapshot.manifest if isinstance(snapshot.manifest, dict) else {}
    wishes = {
        str(group.get("name", ""))[:1024]: bool(group.get("app_consistent")) for group in _dicts(manifest.get("groups"))
    }
    members: dict[str, list[ManifestEntity]] = {name: [] for name in wishes}
    for entity in entities_of(snapshot):
        members.setdefault(entity.group, []).append(entity)
    return [ManifestGroup(name, wishes.get(name, False), listed) for name, listed in sorted(members.items())]
