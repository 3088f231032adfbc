# SPDX-License-Identifier: Apache-2.0
"""Files: golden images, ISOs and the like, each a path and a disk of exactly its length."""

from __future__ import annotations

from typing import BinaryIO

from django.db import transaction

from dataprotection.models import StorageContainer, StoredFile, VirtualDisk
from dataprotection.services import disks as disk_service
from dataprotection.services import images, membership, naming
from dataprotection.services.disks import NewDisk
from prism.core.actor import Actor
from prism.core.services import audit, events


def create(*, path: str, container: StorageContainer, size_bytes: int, actor: Actor) -> StoredFile:
    """A file of zeros, to be written over NBD."""
    with audit.order("file.create", actor=actor, object_type="file", object_name=path) as detail:
        detail["size_bytes"] = size_bytes
        return _create(path, container, size_bytes)


def upload(*, path: str, container: StorageContainer, stream: BinaryIO, size_bytes: int, actor: Actor) -> StoredFile:
    """A file with the content of `stream`, which must give exactly `size_bytes`. Nothing is left of a failed one."""
    with audit.order("file.upload", actor=actor, object_type="file", object_name=path, atomic=False) as detail:
        detail["size_bytes"] = size_bytes
        stored = _create(path, container, size_bytes)
        try:
            images.fill(stored.disk, stream, size_bytes=size_bytes)
        except BaseException:
            disk_service.delete_disks(list(VirtualDisk.objects.filter(stored_file=stored)))
            stored.delete()
            raise
    return stored


def delete(stored: StoredFile, *, even_if_protected: bool = False, actor: Actor) -> None:
    """Delete the file; its snapshots stay."""
    with audit.order("file.delete", actor=actor, object_type="file", object_name=stored.path):
        membership.refuse_protected(stored, even_if_protected=even_if_protected)
        path = stored.path
        disk_service.delete_disks(list(VirtualDisk.objects.filter(stored_file=stored)))
        stored.delete()
        events.add("file_deleted", f"The file {path} was deleted.", object_type="file", object_name=path)


def _create(path: str, container: StorageContainer, size_bytes: int) -> StoredFile:
    with transaction.atomic():
        naming.must_be_new(StoredFile, "path", naming.file_path(path), "file")
        stored = StoredFile.objects.create(path=path, container=container)
        disk = disk_service.create_row(stored, NewDisk(size_bytes))
        membership.join_whole_container(stored)
        disk_service.create_in_engine(disk)
    return stored
