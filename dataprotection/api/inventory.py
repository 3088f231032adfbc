# SPDX-License-Identifier: Apache-2.0
"""Containers, VMs, volume groups, files and disks."""

from __future__ import annotations

from typing import Any

from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from dataprotection.api import inventory_shapes as shapes
from dataprotection.models import VM, StorageContainer, StoredFile, VirtualDisk, VolumeGroup
from dataprotection.services import containers, disks, files, images, vms, volume_groups
from prism.core.api.base import actor_of, checked
from prism.core.api.resource import Resource
from prism.core.exceptions import InvalidInput
from prism.webkit.downloads import attachment
from prism.webkit.permissions import Operate


class RawParser(BaseParser):
    """Leaves the body a stream: an image is never held in memory."""

    media_type = "application/octet-stream"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return stream


class AnyAnswer(BaseContentNegotiation):
    """Downloads ignore the Accept header, and errors of theirs are JSON."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


def body_length(request: Request) -> int:
    """Content-Length of an upload; chunked ones are refused, for the size is needed first."""
    text = request.META.get("CONTENT_LENGTH") or ""
    if not text.isdigit():
        raise InvalidInput("Content-Length", "The size of the upload is not known.", "Send a Content-Length header.")
    return int(text)


class ContainerViewSet(Resource, viewsets.ReadOnlyModelViewSet[StorageContainer]):
    queryset = StorageContainer.objects.all()
    serializer_class = shapes.ContainerSerializer
    search = ("name",)
    sorts = {"name": "name"}

    @extend_schema(request=shapes.NewContainerSerializer, responses={201: shapes.ContainerSerializer})
    def create(self, request: Request) -> Response:
        found = containers.create(actor=actor_of(request), **checked(shapes.NewContainerSerializer, request))
        return Response(self.get_serializer(found).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=shapes.ChangeContainerSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        values = checked(shapes.ChangeContainerSerializer, request)
        found = containers.update(self.get_object(), actor=actor_of(request), **values)
        return Response(self.get_serializer(found).data)

    def destroy(self, request: Request, pk: str) -> Response:
        containers.delete(self.get_object(), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _even_if_protected(request: Request) -> bool:
    return request.query_params.get("even_if_protected", "").lower() in {"1", "true", "yes"}


class VmViewSet(Resource, viewsets.ReadOnlyModelViewSet[VM]):
    """Filters: `name`, `container`."""

    queryset = VM.objects.select_related("container").prefetch_related("disks", "nics")
    serializer_class = shapes.VmSerializer
    observed = shapes.OF_THE_ENGINE
    filters = {"name": "name", "container": "container__name"}
    search = ("name", "description")
    sorts = {
        "name": "name",
        "vcpus": "vcpus",
        "memory": "memory_bytes",
        "power": "power_state",
        "domain": "protection__domain__name",
    }

    @extend_schema(request=shapes.NewVmSerializer, responses={201: shapes.VmSerializer})
    def create(self, request: Request) -> Response:
        values = checked(shapes.NewVmSerializer, request)
        new = [shapes.new_disk(disk) for disk in values.pop("disks", [])]
        vm = vms.create(disks=new, actor=actor_of(request), **values)
        return Response(self.get_serializer(vm).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=shapes.ChangeVmSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        values = checked(shapes.ChangeVmSerializer, request)
        return Response(self.get_serializer(vms.update(self.get_object(), actor=actor_of(request), **values)).data)

    def destroy(self, request: Request, pk: str) -> Response:
        vms.delete(self.get_object(), even_if_protected=_even_if_protected(request), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=shapes.NewDiskSerializer, responses={201: shapes.DiskSerializer})
    @action(detail=True, methods=["post"], url_path="disks")
    def add_disk(self, request: Request, pk: str) -> Response:
        new = shapes.new_disk(checked(shapes.NewDiskSerializer, request))
        disk = disks.add(self.get_object(), new, actor=actor_of(request))
        return Response(shapes.DiskSerializer(disk).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=shapes.NetworkSerializer, responses={201: shapes.NicSerializer})
    @action(detail=True, methods=["post"], url_path="nics")
    def add_nic(self, request: Request, pk: str) -> Response:
        values = checked(shapes.NetworkSerializer, request)
        nic = vms.add_nic(self.get_object(), actor=actor_of(request), **values)
        return Response(shapes.NicSerializer(nic).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    @action(detail=True, methods=["delete"], url_path="nics/(?P<nic>[0-9]+)")
    def remove_nic(self, request: Request, pk: str, nic: str) -> Response:
        vms.remove_nic(get_object_or_404(self.get_object().nics, pk=nic), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class VolumeGroupViewSet(Resource, viewsets.ReadOnlyModelViewSet[VolumeGroup]):
    """Filters: `name`, `container`."""

    queryset = VolumeGroup.objects.select_related("container").prefetch_related("disks", "attachments")
    serializer_class = shapes.VolumeGroupSerializer
    observed = shapes.OF_THE_ENGINE
    filters = {"name": "name", "container": "container__name"}
    search = ("name", "description")
    sorts = {"name": "name", "domain": "protection__domain__name"}

    @extend_schema(request=shapes.NewVolumeGroupSerializer, responses={201: shapes.VolumeGroupSerializer})
    def create(self, request: Request) -> Response:
        values = checked(shapes.NewVolumeGroupSerializer, request)
        new = [shapes.new_disk(disk) for disk in values.pop("disks", [])]
        group = volume_groups.create(disks=new, actor=actor_of(request), **values)
        return Response(self.get_serializer(group).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=shapes.ChangeVolumeGroupSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        values = checked(shapes.ChangeVolumeGroupSerializer, request)
        group = volume_groups.update(self.get_object(), actor=actor_of(request), **values)
        return Response(self.get_serializer(group).data)

    def destroy(self, request: Request, pk: str) -> Response:
        group = self.get_object()
        volume_groups.delete(group, even_if_protected=_even_if_protected(request), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=shapes.NewDiskSerializer, responses={201: shapes.DiskSerializer})
    @action(detail=True, methods=["post"], url_path="disks")
    def add_disk(self, request: Request, pk: str) -> Response:
        new = shapes.new_disk(checked(shapes.NewDiskSerializer, request))
        disk = disks.add(self.get_object(), new, actor=actor_of(request))
        return Response(shapes.DiskSerializer(disk).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=shapes.AttachSerializer)
    @action(detail=True, methods=["post"])
    def attach(self, request: Request, pk: str) -> Response:
        values = checked(shapes.AttachSerializer, request)
        volume_groups.attach(self.get_object(), values["vm"], actor=actor_of(request))
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=shapes.AttachSerializer)
    @action(detail=True, methods=["post"])
    def detach(self, request: Request, pk: str) -> Response:
        values = checked(shapes.AttachSerializer, request)
        volume_groups.detach(self.get_object(), values["vm"], actor=actor_of(request))
        return Response(self.get_serializer(self.get_object()).data)


class FileViewSet(Resource, viewsets.ReadOnlyModelViewSet[StoredFile]):
    """Filters: `path`, `container`."""

    queryset = StoredFile.objects.select_related("container", "disk")
    serializer_class = shapes.FileSerializer
    observed = shapes.OF_THE_ENGINE
    filters = {"path": "path", "container": "container__name"}
    search = ("path",)
    sorts = {
        "path": "path",
        "created": "created_at",
        "size": "disk__size_bytes",
        "domain": "protection__domain__name",
    }

    @extend_schema(request=shapes.NewFileSerializer, responses={201: shapes.FileSerializer})
    def create(self, request: Request) -> Response:
        stored = files.create(actor=actor_of(request), **checked(shapes.NewFileSerializer, request))
        return Response(self.get_serializer(stored).data, status=status.HTTP_201_CREATED)

    def destroy(self, request: Request, pk: str) -> Response:
        files.delete(self.get_object(), even_if_protected=_even_if_protected(request), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request={"application/octet-stream": OpenApiTypes.BINARY}, responses={201: shapes.FileSerializer})
    @action(detail=False, methods=["post"], parser_classes=[RawParser])
    def upload(self, request: Request) -> Response:
        """A new file from the body; `?path=` and `?container=` name it."""
        name = request.query_params.get("container", "default")
        container = StorageContainer.objects.filter(name=name).first()
        if container is None:
            raise InvalidInput("container", f"There is no container {name!r}.")
        stored = files.upload(
            path=request.query_params.get("path", ""),
            container=container,
            stream=request.stream,
            size_bytes=body_length(request),
            actor=actor_of(request),
        )
        return Response(self.get_serializer(stored).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    @action(detail=True, methods=["get"], content_negotiation_class=AnyAnswer, permission_classes=[Operate])
    def download(self, request: Request, pk: str) -> StreamingHttpResponse:
        disk, name = (stored := self.get_object()).disk, stored.path.rsplit("/", 1)[-1]
        return attachment(images.export_raw(disk), size_bytes=disk.size_bytes, name=name)


class DiskViewSet(Resource, viewsets.ReadOnlyModelViewSet[VirtualDisk]):
    """Filters: `vm`, `volume_group`."""

    queryset = VirtualDisk.objects.all()
    serializer_class = shapes.DiskSerializer
    observed = shapes.OF_THE_ENGINE
    filters = {"vm": "vm", "volume_group": "volume_group"}

    def destroy(self, request: Request, pk: str) -> Response:
        disks.remove(self.get_object(), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=shapes.ResizeSerializer)
    @action(detail=True, methods=["post"])
    def resize(self, request: Request, pk: str) -> Response:
        values = checked(shapes.ResizeSerializer, request)
        return Response(self.get_serializer(disks.resize(self.get_object(), actor=actor_of(request), **values)).data)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def reopen(self, request: Request, pk: str) -> Response:
        """Serve it again after this machine died while it was writing. Its guest must not be running."""
        return Response(self.get_serializer(disks.reopen(self.get_object(), actor=actor_of(request))).data)

    @extend_schema(request=shapes.WriteThroughSerializer)
    @action(detail=True, methods=["post"], url_path="write-through")
    def write_through(self, request: Request, pk: str) -> Response:
        """Whether every write is answered only when it is stored; such a disk needs no re-open."""
        values = checked(shapes.WriteThroughSerializer, request)
        disk = disks.set_write_through(self.get_object(), actor=actor_of(request), **values)
        return Response(self.get_serializer(disk).data)

    @extend_schema(request=shapes.MoveSerializer)
    @action(detail=True, methods=["post"])
    def move(self, request: Request, pk: str) -> Response:
        """Attach to another VM or volume group."""
        values = checked(shapes.MoveSerializer, request)
        owners = [owner for owner in (values.pop("vm", None), values.pop("volume_group", None)) if owner]
        if len(owners) != 1:
            raise InvalidInput("vm", "Name one new owner: a VM or a volume group.")
        disk = disks.move(self.get_object(), owner=owners[0], actor=actor_of(request), **values)
        return Response(self.get_serializer(disk).data)

    @extend_schema(request={"application/octet-stream": OpenApiTypes.BINARY})
    @action(detail=True, methods=["put"], parser_classes=[RawParser], url_path="image")
    def import_image(self, request: Request, pk: str) -> Response:
        """Overwrite the disk with the raw image in the body."""
        disk = self.get_object()
        images.import_raw(disk, request.stream, size_bytes=body_length(request), actor=actor_of(request))
        return Response(self.get_serializer(disk).data)

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    @action(
        detail=True,
        methods=["get"],
        content_negotiation_class=AnyAnswer,
        permission_classes=[Operate],
        url_path="raw",
    )
    def export_image(self, request: Request, pk: str) -> StreamingHttpResponse:
        disk = self.get_object()
        return attachment(images.export_raw(disk), size_bytes=disk.size_bytes, name=f"{disk.export_name}.raw")
