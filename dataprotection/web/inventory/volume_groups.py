# SPDX-License-Identifier: Apache-2.0
"""Volume groups: list, page, create, edit, delete, attach to VMs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST

from dataprotection.models import VM, VolumeGroup
from dataprotection.services import volume_groups as group_services
from dataprotection.services.disks import NewDisk
from dataprotection.web.inventory.connections import disk_lines
from dataprotection.web.inventory.deletion import Deletion, deletion_page, disks_in_words
from dataprotection.web.inventory.fields import SizeField, container_field, name_field
from prism.webkit.access import operator, reader
from prism.webkit.orders import Done, actor_of, order_page, posted, press
from prism.webkit.pages import show
from prism.webkit.tables import table

NAV = {"nav": "Inventory", "inventory": "volume-groups"}
SORTS = {"name": "name", "disks": "disk_count", "size": "disk_bytes", "domain": "protection__domain__name"}
FORM = "dataprotection/inventory/form.html"


class GroupForm(forms.Form):
    name = name_field()
    description = forms.CharField(label="Description", required=False, max_length=1000)


class NewGroupForm(GroupForm):
    container = container_field()
    disk = SizeField(label="First disk", required=False, initial="10 GiB")


class AttachForm(forms.Form):
    vm = forms.ModelChoiceField(VM.objects.all(), label="VM", empty_label="Choose ...")


@reader
def volume_groups(request: HttpRequest) -> HttpResponse:
    """All volume groups of this site."""
    rows = VolumeGroup.objects.select_related("container", "protection__domain").annotate(
        disk_count=Count("disks"), disk_bytes=Sum("disks__size_bytes")
    )
    found = table(request, rows, sorts=SORTS, default="name", search=("name", "description"))
    return show(request, "dataprotection/inventory/volume_groups.html", {**NAV, "table": found})


@reader
def volume_group(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """One volume group with its disks and the VMs that use it."""
    found = get_object_or_404(
        VolumeGroup.objects.select_related("container", "protection__domain", "protection__group"), pk=uuid
    )
    lines, error = disk_lines(found.disks.all())
    context = {
        **NAV,
        "group": found,
        "entity": found,
        "lines": lines,
        "engine_error": error,
        "attached": found.attachments.select_related("vm"),
    }
    return show(request, "dataprotection/inventory/volume_group.html", context)


@operator
def create(request: HttpRequest) -> HttpResponse:
    """A volume group with its first disk."""

    def order(data: dict[str, Any], _key: str) -> Done:
        made = group_services.create(
            name=data["name"],
            container=data["container"],
            description=data["description"],
            disks=[NewDisk(data["disk"])] if data["disk"] else [],
            actor=actor_of(request),
        )
        return Done(reverse("dp:volume-group", args=[made.pk]), f"Volume group {made.name} was created.")

    back = reverse("dp:volume-groups")
    return order_page(
        request,
        FORM,
        NewGroupForm(posted(request)),
        order,
        {**NAV, "heading": "Create volume group", "save": "Create", "back": back},
        again_url=back,
    )


@operator
def edit(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Name and description."""
    found = get_object_or_404(VolumeGroup, pk=uuid)
    back = reverse("dp:volume-group", args=[uuid])

    def order(data: dict[str, Any], _key: str) -> Done:
        group_services.update(found, name=data["name"], description=data["description"], actor=actor_of(request))
        return Done(back, f"Volume group {data['name']} was changed.")

    form = GroupForm(posted(request), initial={"name": found.name, "description": found.description})
    return order_page(
        request,
        FORM,
        form,
        order,
        {**NAV, "heading": f"Update volume group {found.name}", "back": back},
        again_url=back,
    )


@operator
def delete(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """The group and its disks; snapshots keep theirs."""
    found = get_object_or_404(VolumeGroup, pk=uuid)
    what = Deletion(
        f"volume group {found.name}",
        f"The group and its {disks_in_words(found)} are deleted. What was written since the last "
        "snapshot is lost. Snapshots of it stay.",
        page=reverse("dp:volume-group", args=[uuid]),
        table=reverse("dp:volume-groups"),
    )
    actor = actor_of(request)
    return deletion_page(
        request, what, lambda even: group_services.delete(found, even_if_protected=even, actor=actor), NAV
    )


@operator
def attach(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Record that a VM uses the group."""
    found = get_object_or_404(VolumeGroup, pk=uuid)
    back = reverse("dp:volume-group", args=[uuid])

    def order(data: dict[str, Any], _key: str) -> Done:
        group_services.attach(found, data["vm"], actor=actor_of(request))
        return Done(back, f"{found.name} is attached to {data['vm'].name}.")

    form = AttachForm(posted(request))
    return order_page(
        request,
        FORM,
        form,
        order,
        {**NAV, "heading": f"Attach {found.name} to a VM", "save": "Attach", "back": back},
        again_url=back,
    )


@require_POST
@operator
def detach(request: HttpRequest, uuid: UUID, vm: UUID) -> HttpResponse:
    """The VM no longer uses the group."""
    found, machine = get_object_or_404(VolumeGroup, pk=uuid), get_object_or_404(VM, pk=vm)

    def order(_key: str) -> str:
        group_services.detach(found, machine, actor=actor_of(request))
        return f"{found.name} is detached from {machine.name}."

    return press(request, reverse("dp:volume-group", args=[uuid]), order)
