# SPDX-License-Identifier: Apache-2.0
"""VMs: list, page, create, edit, delete, network cards."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST

from dataprotection.choices import PowerState
from dataprotection.models import VM, Nic
from dataprotection.services import vms as vm_services
from dataprotection.services.disks import NewDisk
from dataprotection.web.inventory.connections import disk_lines
from dataprotection.web.inventory.deletion import Deletion, deletion_page, disks_in_words
from dataprotection.web.inventory.fields import SizeField, container_field, name_field
from prism.webkit.access import operator, reader
from prism.webkit.orders import Done, actor_of, order_page, posted, press
from prism.webkit.pages import show
from prism.webkit.sizes import size
from prism.webkit.tables import table

NAV = {"nav": "Inventory", "inventory": "vms"}
SORTS = {
    "name": "name",
    "vcpus": "vcpus",
    "memory": "memory_bytes",
    "disks": "disk_count",
    "size": "disk_bytes",
    "power": "power_state",
    "domain": "protection__domain__name",
}


class VmForm(forms.Form):
    name = name_field()
    description = forms.CharField(label="Description", required=False, max_length=1000)
    vcpus = forms.IntegerField(label="vCPUs", min_value=1, max_value=1024, initial=1)
    memory = SizeField(label="Memory", example="2 GiB", initial="2 GiB")


class NewVmForm(VmForm):
    container = container_field()
    disk = SizeField(label="First disk", required=False, initial="10 GiB")
    network = forms.CharField(
        label="Network", required=False, max_length=75, help_text="Name of the network of its card. Empty: no card."
    )


class EditVmForm(VmForm):
    power_state = forms.ChoiceField(
        label="Power state", choices=PowerState.choices, help_text="As you know it: an unmanaged VM runs elsewhere."
    )


@reader
def vms(request: HttpRequest) -> HttpResponse:
    """All VMs of this site."""
    rows = VM.objects.select_related("container", "protection__domain").annotate(
        disk_count=Count("disks"), disk_bytes=Sum("disks__size_bytes")
    )
    found = table(request, rows, sorts=SORTS, default="name", search=("name", "description"))
    return show(request, "dataprotection/inventory/vms.html", {**NAV, "table": found})


@reader
def vm(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """One VM with its disks, addresses and cards."""
    found = get_object_or_404(
        VM.objects.select_related("container", "protection__domain", "protection__group"), pk=uuid
    )
    lines, error = disk_lines(found.disks.all())
    attached = found.volume_group_attachments.select_related("volume_group")
    context = {
        **NAV,
        "vm": found,
        "entity": found,
        "lines": lines,
        "engine_error": error,
        "attached": attached,
        "nics": found.nics.all(),
    }
    return show(request, "dataprotection/inventory/vm.html", context)


@operator
def create(request: HttpRequest) -> HttpResponse:
    """A VM with its first disk and card."""

    def order(data: dict[str, Any], _key: str) -> Done:
        made = vm_services.create(
            name=data["name"],
            container=data["container"],
            vcpus=data["vcpus"],
            memory_bytes=data["memory"],
            description=data["description"],
            disks=[NewDisk(data["disk"])] if data["disk"] else [],
            networks=[data["network"]] if data["network"] else [],
            actor=actor_of(request),
        )
        return Done(reverse("dp:vm", args=[made.pk]), f"VM {made.name} was created.")

    context = {**NAV, "heading": "Create VM", "save": "Create", "back": reverse("dp:vms")}
    return order_page(
        request,
        "dataprotection/inventory/form.html",
        NewVmForm(posted(request)),
        order,
        context,
        again_url=reverse("dp:vms"),
    )


@operator
def edit(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Name, description, vCPUs, memory, power."""
    found = get_object_or_404(VM, pk=uuid)
    back = reverse("dp:vm", args=[uuid])

    def order(data: dict[str, Any], _key: str) -> Done:
        changes = {
            "name": data["name"],
            "description": data["description"],
            "vcpus": data["vcpus"],
            "memory_bytes": data["memory"],
            "power_state": data["power_state"],
        }
        vm_services.update(found, actor=actor_of(request), **changes)
        return Done(back, f"VM {data['name']} was changed.")

    initial = {
        "name": found.name,
        "description": found.description,
        "vcpus": found.vcpus,
        "memory": size(found.memory_bytes),
        "power_state": found.power_state,
    }
    form = EditVmForm(posted(request), initial=initial)
    return order_page(
        request,
        "dataprotection/inventory/form.html",
        form,
        order,
        {**NAV, "heading": f"Update VM {found.name}", "back": back},
        again_url=back,
    )


@operator
def delete(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """The VM and its disks; snapshots keep theirs."""
    found = get_object_or_404(VM, pk=uuid)
    what = Deletion(
        f"VM {found.name}",
        f"The VM and its {disks_in_words(found)} are deleted, with all written since the last snapshot. "
        "Snapshots of it stay.",
        page=reverse("dp:vm", args=[uuid]),
        table=reverse("dp:vms"),
    )
    actor = actor_of(request)
    return deletion_page(
        request, what, lambda even: vm_services.delete(found, even_if_protected=even, actor=actor), NAV
    )


class NicForm(forms.Form):
    network = forms.CharField(label="Network", required=False, max_length=75, help_text="Empty: not connected.")


@operator
def add_nic(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """A network card."""
    found = get_object_or_404(VM, pk=uuid)
    back = reverse("dp:vm", args=[uuid])

    def order(data: dict[str, Any], _key: str) -> Done:
        nic = vm_services.add_nic(found, network=data["network"], actor=actor_of(request))
        return Done(back, f"Network card {nic.mac} was added.")

    form = NicForm(posted(request))
    return order_page(
        request,
        "dataprotection/inventory/form.html",
        form,
        order,
        {**NAV, "heading": "Add network card", "save": "Add", "back": back},
        again_url=back,
    )


@require_POST
@operator
def remove_nic(request: HttpRequest, pk: int) -> HttpResponse:
    """Take a card out."""
    nic = get_object_or_404(Nic.objects.select_related("vm"), pk=pk)

    def order(_key: str) -> str:
        vm_services.remove_nic(nic, actor=actor_of(request))
        return f"Network card {nic.mac} was removed."

    return press(request, reverse("dp:vm", args=[nic.vm_id]), order)
