# SPDX-License-Identifier: Apache-2.0
"""Files (golden images, ISOs) and storage containers."""

from __future__ import annotations

from typing import Any, BinaryIO, cast
from uuid import UUID

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse

from dataprotection.models import StorageContainer, StoredFile
from dataprotection.services import containers as container_services
from dataprotection.services import files as file_services
from dataprotection.services import images
from dataprotection.web.inventory.connections import disk_lines
from dataprotection.web.inventory.deletion import Deletion, deletion_page
from dataprotection.web.inventory.fields import container_field, name_field
from prism.webkit.access import operator, reader
from prism.webkit.downloads import download as answer
from prism.webkit.orders import Done, actor_of, order_page, posted
from prism.webkit.pages import show
from prism.webkit.sizes import size
from prism.webkit.tables import table

FILES = {"nav": "Inventory", "inventory": "files"}
CONTAINERS = {"nav": "Inventory", "inventory": "containers"}
FORM = "dataprotection/inventory/form.html"


class UploadForm(forms.Form):
    path = forms.CharField(label="Path", max_length=1024, help_text="For example /iso/debian-12.iso")
    container = container_field()
    content = forms.FileField(label="File")


@reader
def files(request: HttpRequest) -> HttpResponse:
    """All files of this site."""
    rows = StoredFile.objects.select_related("container", "disk", "protection__domain")
    sorts = {"path": "path", "size": "disk__size_bytes", "created": "created_at", "domain": "protection__domain__name"}
    found = table(request, rows, sorts=sorts, default="path", search=("path",))
    return show(request, "dataprotection/inventory/files.html", {**FILES, "table": found})


@reader
def stored_file(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """One file and its address."""
    found = get_object_or_404(
        StoredFile.objects.select_related("container", "disk", "protection__domain", "protection__group"), pk=uuid
    )
    lines, error = disk_lines([found.disk])
    return show(
        request,
        "dataprotection/inventory/file.html",
        {**FILES, "file": found, "entity": found, "lines": lines, "engine_error": error},
    )


@operator
def upload(request: HttpRequest) -> HttpResponse:
    """A new file from the browser."""

    def order(data: dict[str, Any], _key: str) -> Done:
        content: UploadedFile[bytes] = data["content"]
        made = file_services.upload(
            path=data["path"],
            container=data["container"],
            stream=cast(BinaryIO, content),
            size_bytes=content.size or 0,
            actor=actor_of(request),
        )
        return Done(reverse("dp:file", args=[made.pk]), f"{made.path} was uploaded ({size(content.size)}).")

    form = UploadForm(posted(request), request.FILES or None)
    context = {**FILES, "heading": "Upload file", "save": "Upload", "multipart": True, "back": reverse("dp:files")}
    return order_page(request, FORM, form, order, context, again_url=reverse("dp:files"))


@operator
def download(request: HttpRequest, uuid: UUID) -> HttpResponseBase:
    """The file's bytes, as they are now."""
    found = get_object_or_404(StoredFile.objects.select_related("disk"), pk=uuid)
    back = reverse("dp:file", args=[uuid])
    return answer(
        request,
        images.export_raw(found.disk),
        size_bytes=found.disk.size_bytes,
        name=found.path.rsplit("/", 1)[-1],
        back=back,
    )


@operator
def delete_file(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """The file; snapshots keep theirs."""
    found = get_object_or_404(StoredFile, pk=uuid)
    what = Deletion(
        found.path,
        "The file is deleted. Snapshots of it stay.",
        page=reverse("dp:file", args=[uuid]),
        table=reverse("dp:files"),
    )
    actor = actor_of(request)
    return deletion_page(
        request, what, lambda even: file_services.delete(found, even_if_protected=even, actor=actor), FILES
    )


class ContainerForm(forms.Form):
    fingerprinting = forms.BooleanField(
        label="Fingerprinting",
        required=False,
        initial=True,
        help_text="Must be on here and at the target for data that the target already has to stay off the wire.",
    )
    compress = forms.BooleanField(label="Compression", required=False, initial=True)


class NewContainerForm(ContainerForm):
    name = name_field()
    field_order = ["name"]


@reader
def containers(request: HttpRequest) -> HttpResponse:
    """All storage containers of this site."""
    rows = StorageContainer.objects.annotate(
        vm_count=Count("vms", distinct=True),
        group_count=Count("volume_groups", distinct=True),
        file_count=Count("files", distinct=True),
    )
    found = table(
        request,
        rows,
        sorts={"name": "name", "vms": "vm_count", "groups": "group_count", "files": "file_count"},
        default="name",
        search=("name",),
    )
    return show(request, "dataprotection/inventory/containers.html", {**CONTAINERS, "table": found})


@operator
def create_container(request: HttpRequest) -> HttpResponse:
    """A new, empty container."""
    back = reverse("dp:containers")

    def order(data: dict[str, Any], _key: str) -> Done:
        made = container_services.create(
            name=data["name"], fingerprinting=data["fingerprinting"], compress=data["compress"], actor=actor_of(request)
        )
        return Done(back, f"Storage container {made.name} was created.")

    form = NewContainerForm(posted(request))
    return order_page(
        request,
        FORM,
        form,
        order,
        {**CONTAINERS, "heading": "Create storage container", "save": "Create", "back": back},
        again_url=back,
    )


@operator
def edit_container(request: HttpRequest, pk: int) -> HttpResponse:
    """Fingerprinting and compression, for what is written and replicated from now on."""
    found = get_object_or_404(StorageContainer, pk=pk)
    back = reverse("dp:containers")

    def order(data: dict[str, Any], _key: str) -> Done:
        container_services.update(
            found, fingerprinting=data["fingerprinting"], compress=data["compress"], actor=actor_of(request)
        )
        return Done(back, f"Storage container {found.name} was changed.")

    form = ContainerForm(posted(request), initial={"fingerprinting": found.fingerprinting, "compress": found.compress})
    return order_page(
        request,
        FORM,
        form,
        order,
        {**CONTAINERS, "heading": f"Update storage container {found.name}", "back": back},
        again_url=back,
    )


@operator
def delete_container(request: HttpRequest, pk: int) -> HttpResponse:
    """Only an empty one can go."""
    found = get_object_or_404(StorageContainer, pk=pk)
    back = reverse("dp:containers")

    def order(_data: dict[str, Any], _key: str) -> Done:
        container_services.delete(found, actor=actor_of(request))
        return Done(back, f"Storage container {found.name} was deleted.")

    context = {
        **CONTAINERS,
        "heading": f"Delete storage container {found.name}",
        "save": "Delete",
        "tone": "danger",
        "back": back,
        "warning": "Only an empty container can be deleted.",
    }
    return order_page(request, FORM, forms.Form(posted(request)), order, context, again_url=back)
