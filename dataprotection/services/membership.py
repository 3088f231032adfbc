# SPDX-License-Identifier: Apache-2.0
"""The tie between an entity and its domain, below the protect and inventory verbs (no audit rows here)."""

from __future__ import annotations

from typing import Any

from dataprotection.models import VM, ConsistencyGroup, ProtectedEntity, ProtectionDomain, StoredFile, VolumeGroup
from prism.core.exceptions import Conflict

Entity = VM | VolumeGroup | StoredFile
FIELD = {VM: "vm", VolumeGroup: "volume_group", StoredFile: "stored_file"}


def of(entity: Entity) -> ProtectedEntity | None:
    """The entity's membership; None when it is unprotected."""
    return ProtectedEntity.objects.select_related("domain", "group").filter(**_key(entity)).first()


def join(domain: ProtectionDomain, group: ConsistencyGroup, entity: Entity) -> ProtectedEntity:
    """Make the entity a member. Raises Conflict when it is one already, here or elsewhere."""
    known = of(entity)
    if known is not None:
        raise Conflict(
            "already_protected",
            f"{entity.name} is already protected by {known.domain.name}.",
            "Unprotect it there first.",
        )
    return ProtectedEntity.objects.create(
        domain=domain, group=group, entity_type=entity.entity_type, name=entity.name, **_key(entity)
    )


def join_whole_container(entity: Entity) -> None:
    """A new entity in a wholly protected container is protected at once, in a group of its own name."""
    domain = ProtectionDomain.objects.filter(whole_container=entity.container, mode="active").first()
    if domain is not None:
        group, _ = ConsistencyGroup.objects.get_or_create(domain=domain, name=entity.name)
        join(domain, group, entity)


def rename(entity: Entity) -> None:
    """Keep the name that a membership would show if the entity went missing."""
    ProtectedEntity.objects.filter(**_key(entity)).update(name=entity.name)


def refuse_protected(entity: Entity, *, even_if_protected: bool) -> None:
    """A protected entity is not deleted by mistake; deleted on purpose it becomes a missing entity of its domain."""
    known = of(entity)
    if known is not None and not even_if_protected:
        raise Conflict(
            "protected",
            f"{entity.name} is protected by {known.domain.name}.",
            "Unprotect it first, or confirm that it may go missing from its protection domain.",
        )


def _key(entity: Entity) -> dict[str, Any]:
    return {FIELD[type(entity)]: entity}
