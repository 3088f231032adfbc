# SPDX-License-Identifier: Apache-2.0
"""Entities of all three kinds in one list; `key` = `kind:uuid` names one in a form."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Model

from dataprotection.choices import EntityType
from dataprotection.models import VM, StoredFile, VolumeGroup
from prism.core.exceptions import InvalidInput

Entity = VM | VolumeGroup | StoredFile
KINDS: dict[str, tuple[type[Model], str]] = {
    EntityType.VM: (VM, "name"),
    EntityType.VOLUME_GROUP: (VolumeGroup, "name"),
    EntityType.FILE: (StoredFile, "path"),
}


@dataclass(frozen=True)
class EntityRow:
    """One line of Unprotected Entities."""

    key: str
    name: str
    type_label: str
    container: str


def unprotected(*, name: str, entity_type: str, limit: int) -> list[EntityRow]:
    """Entities in no domain, VMs first, each kind by name; at most `limit` in all."""
    rows: list[EntityRow] = []
    for kind, (model, name_field) in KINDS.items():
        if entity_type and kind != entity_type:
            continue
        found = model._default_manager.filter(protection__isnull=True, **{f"{name_field}__icontains": name})
        for pk, text, container in found.order_by(name_field).values_list("pk", name_field, "container__name")[
            : limit - len(rows)
        ]:
            rows.append(EntityRow(f"{kind}:{pk}", text, EntityType(kind).label, container))
    return rows


def entities_by_key(keys: list[str]) -> list[Entity]:
    """The objects; raises `InvalidInput` when one is gone."""
    wanted: dict[str, list[UUID]] = {}
    for key in keys:
        kind, _, pk = key.partition(":")
        wanted.setdefault(kind, []).append(UUID(pk))
    found: list[Entity] = []
    for model in (VM, VolumeGroup, StoredFile):
        found.extend(model.objects.filter(pk__in=wanted.get(model.entity_type, [])))
    if len(found) != len(keys):
        raise InvalidInput("entities", "One of the entities was deleted meanwhile.", "Choose again.")
    return found
