# SPDX-License-Identifier: Apache-2.0
"""Virtual machines. Hypervisor kind "unmanaged": the machine runs elsewhere, we keep its disks and its description."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from dataprotection.choices import PowerState
from dataprotection.models import VM, Nic, StorageContainer, VirtualDisk
from dataprotection.services import disks as disk_service
from dataprotection.services import membership, naming
from dataprotection.services.disks import NewDisk
from prism.core.actor import Actor
from prism.core.exceptions import InvalidInput
from prism.core.services import audit, events

MEMORY_BYTES_MIN = 1 << 20
VCPUS_MAX = 1024


def create(
    *,
    name: str,
    container: StorageContainer,
    vcpus: int = 1,
    memory_bytes: int = 1 << 30,
    description: str = "",
    disks: Sequence[NewDisk] = (),
    networks: Sequence[str] = (),
    actor: Actor,
) -> VM:
    """A VM with its disks and one network card per network name. Protected at once in a whole-container domain."""
    with audit.order("vm.create", actor=actor, object_type="vm", object_name=name):
        naming.entity_name(name)
        naming.must_be_new(VM, "name", name, "VM")
        _check(vcpus=vcpus, memory_bytes=memory_bytes)
        vm = VM.objects.create(
            name=name, container=container, vcpus=vcpus, memory_bytes=memory_bytes, description=description
        )
        for network in networks:
            create_nic(vm, network)
        rows = [(disk_service.create_row(vm, new), new) for new in disks]
        membership.join_whole_container(vm)
        for row, new in rows:
            disk_service.create_in_engine(row, source=new.source, write_through=new.write_through)
    return vm


def update(vm: VM, *, actor: Actor, **changes: Any) -> VM:
    """Change any of name, vcpus, memory_bytes, description, power_state."""
    with audit.order("vm.update", actor=actor, object_type="vm", object_name=vm.name) as detail:
        unknown = set(changes) - {"name", "vcpus", "memory_bytes", "description", "power_state"}
        if unknown:
            raise InvalidInput(min(unknown), "This cannot be changed.")
        detail.update(changes)
        if changes.get("name", vm.name) != vm.name:
            naming.must_be_new(VM, "name", naming.entity_name(changes["name"]), "VM")
        if changes.get("power_state", vm.power_state) not in PowerState.values:
            raise InvalidInput("power_state", "A VM is on or off.")
        _check(vcpus=changes.get("vcpus", vm.vcpus), memory_bytes=changes.get("memory_bytes", vm.memory_bytes))
        for name, value in changes.items():
            setattr(vm, name, value)
        vm.save(update_fields=list(changes) or None)
        membership.rename(vm)
    return vm


def delete(vm: VM, *, even_if_protected: bool = False, actor: Actor) -> None:
    """Delete the VM and its disks; its snapshots stay. Refused while clients use a disk."""
    with audit.order("vm.delete", actor=actor, object_type="vm", object_name=vm.name):
        membership.refuse_protected(vm, even_if_protected=even_if_protected)
        disks = list(VirtualDisk.objects.filter(vm=vm))
        name = vm.name
        disk_service.delete_disks(disks)
        vm.delete()
        events.add("vm_deleted", f"The VM {name} was deleted.", object_type="vm", object_name=name)


def add_nic(vm: VM, *, network: str, actor: Actor) -> Nic:
    """A network card; `network` "" = not connected."""
    with audit.order("vm.add_nic", actor=actor, object_type="vm", object_name=vm.name):
        return create_nic(vm, network)


def remove_nic(nic: Nic, *, actor: Actor) -> None:
    with audit.order("vm.remove_nic", actor=actor, object_type="vm", object_name=nic.vm.name):
        nic.delete()


def create_nic(vm: VM, network: str, *, mac: str | None = None) -> Nic:
    """The row; `mac` None or one that is taken here = a new address from our range."""
    if network:
        naming.entity_name(network, field="network")
    if mac is None or Nic.objects.filter(mac=mac).exists():
        mac = new_mac()
    return Nic.objects.create(vm=vm, network=network, mac=mac)


def new_mac() -> str:
    """A free, locally administered address."""
    while True:
        mac = "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
        if not Nic.objects.filter(mac=mac).exists():
            return mac


def _check(*, vcpus: int, memory_bytes: int) -> None:
    if not 1 <= vcpus <= VCPUS_MAX:
        raise InvalidInput("vcpus", f"A VM has 1 to {VCPUS_MAX} vCPUs.")
    if memory_bytes < MEMORY_BYTES_MIN:
        raise InvalidInput("memory_bytes", "A VM has at least 1 MiB of memory.")
