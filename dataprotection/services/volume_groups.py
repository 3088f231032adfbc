# SPDX-License-Identifier: Apache-2.0
"""Volume groups: disks that VMs attach from outside."""

from __future__ import annotations

from collections.abc import Sequence

from dataprotection.models import VM, StorageContainer, VirtualDisk, VolumeGroup, VolumeGroupAttachment
from dataprotection.services import disks as disk_service
from dataprotection.services import membership, naming
from dataprotection.services.disks import NewDisk
from prism.core.actor import Actor
from prism.core.exceptions import Conflict
from prism.core.services import audit, events


def create(
    *, name: str, container: StorageContainer, description: str = "", disks: Sequence[NewDisk] = (), actor: Actor
) -> VolumeGroup:
    """A volume group with its disks."""
    with audit.order("volume_group.create", actor=actor, object_type="volume_group", object_name=name):
        naming.entity_name(name)
        naming.must_be_new(VolumeGroup, "name", name, "volume group")
        group = VolumeGroup.objects.create(name=name, container=container, description=description)
        rows = [(disk_service.create_row(group, new), new) for new in disks]
        membership.join_whole_container(group)
        for row, new in rows:
            disk_service.create_in_engine(row, source=new.source, write_through=new.write_through)
    return group


def update(group: VolumeGroup, *, name: str | None = None, description: str | None = None, actor: Actor) -> VolumeGroup:
    """Change what is given."""
    with audit.order("volume_group.update", actor=actor, object_type="volume_group", object_name=group.name):
        if name is not None and name != group.name:
            naming.must_be_new(VolumeGroup, "name", naming.entity_name(name), "volume group")
            group.name = name
        if description is not None:
            group.description = description
        group.save(update_fields=["name", "description"])
        membership.rename(group)
    return group


def delete(group: VolumeGroup, *, even_if_protected: bool = False, actor: Actor) -> None:
    """Delete the group and its disks; its snapshots stay. Refused while a VM has it attached."""
    with audit.order("volume_group.delete", actor=actor, object_type="volume_group", object_name=group.name):
        membership.refuse_protected(group, even_if_protected=even_if_protected)
        attached = [found.vm.name for found in group.attachments.select_related("vm")]
        if attached:
            raise Conflict(
                "attached", f"{group.name} is attached to {', '.join(attached)}.", "Detach it from the VMs first."
            )
        name = group.name
        disk_service.delete_disks(list(VirtualDisk.objects.filter(volume_group=group)))
        group.delete()
        events.add(
            "volume_group_deleted",
            f"The volume group {name} was deleted.",
            object_type="volume_group",
            object_name=name,
        )


def attach(group: VolumeGroup, vm: VM, *, actor: Actor) -> VolumeGroupAttachment:
    """Record that `vm` uses the group. Attaching twice changes nothing."""
    with audit.order("volume_group.attach", actor=actor, object_type="volume_group", object_name=group.name) as detail:
        detail["vm"] = vm.name
        return VolumeGroupAttachment.objects.get_or_create(volume_group=group, vm=vm)[0]


def detach(group: VolumeGroup, vm: VM, *, actor: Actor) -> None:
    """Detaching what is not attached changes nothing."""
    with audit.order("volume_group.detach", actor=actor, object_type="volume_group", object_name=group.name) as detail:
        detail["vm"] = vm.name
        VolumeGroupAttachment.objects.filter(volume_group=group, vm=vm).delete()
