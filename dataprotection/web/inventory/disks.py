# SPDX-License-Identifier: Apache-2.0
"""Disks: add, resize, move (detach and attach), remove, import and export as raw images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, cast
from uuid import UUID

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse

from dataprotection.choices import Bus
from dataprotection.models import VM, VirtualDisk, VolumeGroup
from dataprotection.services import disks as disk_services
from dataprotection.services import images
from dataprotection.services.disk_states import states_of
from dataprotection.services.disks import NewDisk
from dataprotection.web.inventory.fields import SizeField
from prism.core.exceptions import Refused
from prism.webkit.access import operator
from prism.webkit.downloads import download
from prism.webkit.orders import Done, actor_of, order_page, posted
from prism.webkit.sizes import size
from stargate.errors import StargateError

FORM = "dataprotection/inventory/form.html"


def owner_url(owner: object) -> str:
    """The page of the entity that owns a disk."""
    if isinstance(owner, VM):
        return reverse("dp:vm", args=[owner.pk])
    if isinstance(owner, VolumeGroup):
        return reverse("dp:volume-group", args=[owner.pk])
    return reverse("dp:files")


def _disk(uuid: UUID) -> VirtualDisk:
    return get_object_or_404(VirtualDisk.objects.select_related("vm", "volume_group", "stored_file"), pk=uuid)


def _context(heading: str, back: str, **more: Any) -> dict[str, Any]:
    return {"nav": "Inventory", "heading": heading, "back": back, **more}


def _page(
    request: HttpRequest,
    disk: VirtualDisk,
    verb: str,
    order: Callable[[dict[str, Any]], str],
    form: forms.Form | None = None,
    **context: Any,
) -> HttpResponse:
    """The page of one order on a disk, called as its button is; `order` gives it and returns what to say."""
    back = owner_url(disk.owner)

    def given(data: dict[str, Any], _key: str) -> Done:
        said = order(data)
        return Done(owner_url(disk.owner), said)

    shown = _context(f"{verb} {disk.export_name}", back, **{"save": verb, **context})
    return order_page(request, FORM, form or forms.Form(posted(request)), given, shown, again_url=back)


class AddForm(forms.Form):
    size = SizeField(label="Size", initial="10 GiB")
    bus = forms.ChoiceField(label="Bus", choices=Bus.choices)
    label = forms.CharField(label="Label", required=False, max_length=75)


def _add(request: HttpRequest, owner: VM | VolumeGroup) -> HttpResponse:
    back = owner_url(owner)

    def order(data: dict[str, Any], _key: str) -> Done:
        disk = disk_services.add(
            owner, NewDisk(data["size"], bus=data["bus"], label=data["label"]), actor=actor_of(request)
        )
        return Done(back, f"A disk of {size(disk.size_bytes)} was added; it is served as {disk.export_name}.")

    return order_page(
        request,
        FORM,
        AddForm(posted(request)),
        order,
        _context(f"Add disk to {owner.name}", back, save="Add"),
        again_url=back,
    )


@operator
def add_to_vm(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """A new disk for a VM."""
    return _add(request, get_object_or_404(VM, pk=uuid))


@operator
def add_to_volume_group(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """A new disk for a volume group."""
    return _add(request, get_object_or_404(VolumeGroup, pk=uuid))


class ResizeForm(forms.Form):
    size_bytes = SizeField(label="New size")


@operator
def resize(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Grow."""
    disk = _disk(uuid)

    def order(data: dict[str, Any]) -> str:
        disk_services.resize(disk, size_bytes=data["size_bytes"], actor=actor_of(request))
        return f"{disk.export_name} now has {size(disk.size_bytes)}. Clients see it when they connect again."

    form = ResizeForm(posted(request), initial={"size_bytes": size(disk.size_bytes)})
    tip = f"It has {size(disk.size_bytes)}. A disk can only grow."
    return _page(request, disk, "Resize", order, form, tip=tip)


@operator
def reopen(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Serve it again after this machine died while it was writing."""
    disk = _disk(uuid)

    def order(_data: dict[str, Any]) -> str:
        disk_services.reopen(disk, actor=actor_of(request))
        return f"{disk.export_name} is served again."

    warning = (
        "This machine died while writes to the disk were acknowledged and not yet stored: they may be gone. "
        "Make sure that its guest was shut down or died too; it then starts as after a power cut."
    )
    return _page(request, disk, "Re-open", order, tone="danger", warning=warning)


class WriteThroughForm(forms.Form):
    enabled = forms.BooleanField(label="Answer every write only when it is stored", required=False)


@operator
def write_through(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Slower writes, and nothing to ask for after a host death."""
    disk = _disk(uuid)

    def order(data: dict[str, Any]) -> str:
        disk_services.set_write_through(disk, enabled=data["enabled"], actor=actor_of(request))
        return f"{disk.export_name} is {'now' if data['enabled'] else 'no longer'} write-through."

    form = WriteThroughForm(posted(request), initial={"enabled": _is_write_through(disk)})
    tip = "Each write waits for the storage. Such a disk needs no re-open after this machine died."
    return _page(request, disk, "Write-through of", order, form, save="Save", tip=tip)


def _is_write_through(disk: VirtualDisk) -> bool:
    """False also while the engine does not answer: then the order is refused in words."""
    try:
        state = states_of([disk.pk]).get(disk.pk)
    except (Refused, StargateError):
        return False
    return state is not None and state.write_through


class MoveForm(forms.Form):
    owner = forms.ChoiceField(label="Attach to")
    bus = forms.ChoiceField(label="Bus", choices=Bus.choices)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["owner"]
        if isinstance(field, forms.ChoiceField):
            machines = [(f"vm:{pk}", f"VM {name}") for pk, name in VM.objects.values_list("pk", "name")]
            field.choices = machines + [
                (f"vg:{pk}", f"Volume group {name}") for pk, name in VolumeGroup.objects.values_list("pk", "name")
            ]


@operator
def move(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Detach from its owner and attach to another."""
    disk = _disk(uuid)

    def order(data: dict[str, Any]) -> str:
        kind, _, key = data["owner"].partition(":")
        owner: VM | VolumeGroup = (
            get_object_or_404(VM, pk=key) if kind == "vm" else get_object_or_404(VolumeGroup, pk=key)
        )
        disk_services.move(disk, owner=owner, bus=data["bus"], actor=actor_of(request))
        return f"{disk.export_name} is now attached to {owner.name}; its NBD address stays."

    form = MoveForm(posted(request), initial={"bus": disk.bus})
    tip = "The disk is detached from its owner and attached to another one. Its bytes and its NBD address stay."
    return _page(request, disk, "Move", order, form, tip=tip)


@operator
def remove(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Delete with its bytes; snapshots keep theirs."""
    disk = _disk(uuid)

    def order(_data: dict[str, Any]) -> str:
        disk_services.remove(disk, actor=actor_of(request))
        return "The disk was removed."

    warning = (
        f"The disk of {size(disk.size_bytes)} and everything written to it since the last snapshot is gone. "
        "Snapshots keep their copy."
    )
    return _page(request, disk, "Remove", order, tone="danger", warning=warning)


class ImportForm(forms.Form):
    image = forms.FileField(
        label="Raw image",
        help_text="Its bytes are written from the beginning of the disk. It may not be larger than the disk.",
    )


@operator
def import_raw(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Overwrite the disk with an uploaded image."""
    disk = _disk(uuid)

    def order(data: dict[str, Any]) -> str:
        image: UploadedFile[bytes] = data["image"]
        images.import_raw(disk, cast(BinaryIO, image), size_bytes=image.size or 0, actor=actor_of(request))
        return f"{size(image.size)} were written to {disk.export_name}."

    warning = (
        f"What stands on the disk ({size(disk.size_bytes)}) is overwritten. "
        "For large images qemu-img or nbdcopy to the NBD address is faster."
    )
    form = ImportForm(posted(request), request.FILES or None)
    return _page(
        request, disk, "Import into", order, form, save="Import", tone="danger", multipart=True, warning=warning
    )


@operator
def export_raw(request: HttpRequest, uuid: UUID) -> HttpResponseBase:
    """Download the disk as a raw image, as it is now."""
    disk = _disk(uuid)
    return download(
        request,
        images.export_raw(disk),
        size_bytes=disk.size_bytes,
        name=f"{disk.export_name}.raw",
        back=owner_url(disk.owner),
    )
