# SPDX-License-Identifier: Apache-2.0
"""Who belongs to a domain, and to which consistency group of it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from dataprotection.models import (
    VM,
    ConsistencyGroup,
    ProtectedEntity,
    ProtectionDomain,
    StorageContainer,
    VirtualDisk,
    VolumeGroup,
)
from dataprotection.services import domains, gating, membership, naming
from dataprotection.services.membership import Entity
from prism.core.actor import Actor
from prism.core.exceptions import Conflict, InvalidInput
from prism.core.services import alerts, audit

LARGE_GROUP = 20
"""More entities than this in one group raise the documented warning."""


class GroupMode(StrEnum):
    """The three choices of "Pick a consistency group"."""

    ENTITY_NAME = "entity_name"
    EXISTING = "existing"
    NEW = "new"


def protect(
    domain: ProtectionDomain,
    *,
    entities: Sequence[Entity],
    group_mode: str = GroupMode.ENTITY_NAME,
    group_name: str = "",
    app_consistent: bool = False,
    related: bool = False,
    actor: Actor,
) -> list[ProtectedEntity]:
    """Protect all of `entities`, or none. `related` adds the volume groups attached to the VMs among them."""
    with audit.order("domain.protect", actor=actor, object_type=domains.TYPE, object_name=domain.name) as detail:
        domains.refuse_unusable(domain)
        wanted = _with_related(entities) if related else list(dict.fromkeys(entities))
        detail.update(entities=[entity.name for entity in wanted], group_mode=group_mode, group=group_name)
        if not wanted:
            raise InvalidInput("entities", "No entity is selected.", "Select at least one.")
        _refuse_taken_group(domain, group_mode, group_name)
        made = [
            membership.join(domain, _group_for(domain, entity, group_mode, group_name, app_consistent), entity)
            for entity in wanted
        ]
        for group in {row.group for row in made}:
            _check_group(group)
        gating.refresh(domain)
        for row in made:
            domains.happened(domain, "entity_protected", f"{row.name} is protected by {domain.name}.")
    return made


def protect_container(domain: ProtectionDomain, *, container: StorageContainer, actor: Actor) -> list[ProtectedEntity]:
    """Protect all that `container` holds, one group per entity, and whatever is created in it later.

    Entities that another domain protects already stay there.
    """
    with audit.order(
        "domain.protect_container", actor=actor, object_type=domains.TYPE, object_name=domain.name
    ) as detail:
        detail["container"] = container.name
        domains.refuse_unusable(domain)
        holder = ProtectionDomain.objects.filter(whole_container=container).exclude(pk=domain.pk).first()
        if holder is not None:
            raise Conflict(
                "already_protected", f"{container.name} is protected by {holder.name}.", "Choose another container."
            )
        ProtectionDomain.objects.filter(pk=domain.pk).update(whole_container=container)
        domain.refresh_from_db()
        found: list[Entity] = [*container.vms.all(), *container.volume_groups.all(), *container.files.all()]
        made = []
        for entity in found:
            if membership.of(entity) is None:
                group = _group_for(domain, entity, GroupMode.ENTITY_NAME, "", app_consistent=False)
                made.append(membership.join(domain, group, entity))
        gating.refresh(domain)
        domains.happened(
            domain, "container_protected", f"The container {container.name} is protected by {domain.name}."
        )
    return made


def unprotect(domain: ProtectionDomain, *, entities: Sequence[ProtectedEntity], actor: Actor) -> None:
    """End the protection of members; their snapshots stay. Groups that become empty go."""
    with audit.order("domain.unprotect", actor=actor, object_type=domains.TYPE, object_name=domain.name) as detail:
        domains.refuse_unusable(domain)
        detail["entities"] = [row.name for row in entities]
        for row in entities:
            if row.domain_id != domain.pk:
                raise InvalidInput("entities", f"{row.name} is not protected by {domain.name}.")
        keys = [row.pk for row in entities]
        disks = VirtualDisk.objects.filter(vm__protection__in=keys) | VirtualDisk.objects.filter(
            volume_group__protection__in=keys
        )
        disks |= VirtualDisk.objects.filter(stored_file__protection__in=keys)
        gone = list(disks.values_list("uuid", flat=True))
        ProtectedEntity.objects.filter(pk__in=keys).delete()
        domain.groups.filter(entities__isnull=True).delete()
        gating.ungate(gone)
        for row in entities:
            domains.happened(domain, "entity_unprotected", f"{row.name} is no longer protected by {domain.name}.")


def set_app_consistent(group: ConsistencyGroup, *, app_consistent: bool, actor: Actor) -> ConsistencyGroup:
    """Store the wish for application-consistent snapshots of a group of one VM."""
    with audit.order("group.update", actor=actor, object_type="consistency_group", object_name=group.name):
        domains.refuse_unusable(group.domain)
        group.app_consistent = app_consistent
        group.save(update_fields=["app_consistent"])
        _check_group(group)
    return group


def _with_related(entities: Sequence[Entity]) -> list[Entity]:
    wanted: dict[Entity, None] = dict.fromkeys(entities)
    for entity in entities:
        if isinstance(entity, VM):
            wanted.update(dict.fromkeys(VolumeGroup.objects.filter(attachments__vm=entity, protection__isnull=True)))
    return list(wanted)


def _group_for(
    domain: ProtectionDomain, entity: Entity, mode: str, name: str, app_consistent: bool
) -> ConsistencyGroup:
    # A volume group is never application consistent: its own group keeps the wish off.
    wish = app_consistent and not (mode == GroupMode.ENTITY_NAME and not isinstance(entity, VM))
    if mode == GroupMode.ENTITY_NAME:
        return ConsistencyGroup.objects.get_or_create(
            domain=domain, name=entity.name, defaults={"app_consistent": wish}
        )[0]
    if mode == GroupMode.EXISTING:
        group = domain.groups.filter(name=name).first()
        if group is None:
            raise InvalidInput("group_name", f"{domain.name} has no consistency group {name!r}.", "Create a new one.")
        return group
    if mode != GroupMode.NEW:
        raise InvalidInput("group_mode", "Choose entity_name, existing or new.")
    naming.entity_name(name, field="group_name")
    return ConsistencyGroup.objects.get_or_create(domain=domain, name=name, defaults={"app_consistent": wish})[0]


def _refuse_taken_group(domain: ProtectionDomain, mode: str, name: str) -> None:
    if mode == GroupMode.NEW and domain.groups.filter(name=name).exists():
        raise InvalidInput("group_name", f"{domain.name} has a group {name} already.", "Use the existing one.")


def _check_group(group: ConsistencyGroup) -> None:
    members = list(group.entities.all())
    if group.app_consistent and (len(members) != 1 or members[0].entity_type != "vm"):
        raise InvalidInput(
            "app_consistent",
            f"An application-consistent group holds one VM and nothing else; "
            f"{group.name} would hold {len(members)} entities.",
            "Use one group per VM, or crash-consistent snapshots.",
        )
    if len(members) > LARGE_GROUP:
        alerts.raise_alert(
            "large_consistency_group",
            f"The consistency group {group.name} of {group.domain.name} has {len(members)} entities.",
            object_type=domains.TYPE,
            object_name=group.domain.name,
            object_id=group.domain_id,
            dedup=group.name,
        )
