# SPDX-License-Identifier: Apache-2.0
"""Disks with their NBD address and who is connected, for one entity's page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from uuid import UUID

from dataprotection.models import VirtualDisk
from dataprotection.services.disk_states import DiskState, states_of
from dataprotection.services.disks import nbd_uri
from prism.core.exceptions import Refused
from stargate.errors import StargateError


@dataclass(frozen=True)
class DiskLine:
    """A disk as its entity's page shows it. `state` None: the engine does not answer, or does not have it."""

    disk: VirtualDisk
    uri: str
    state: DiskState | None = None

    @property
    def secured(self) -> bool:
        """Whether clients need a certificate."""
        return self.uri.startswith("nbds:")

    @property
    def commands(self) -> str:
        """Lines to paste on a client, one per program."""
        parts = urlsplit(self.uri)
        host, port, export = parts.hostname, parts.port, unquote(parts.path[1:])
        folder, creds, tls = "", "", ""
        if self.secured:
            folder, tls = "?tls-certificates=FOLDER", ",tls-creds=tls0"
            creds = "-object tls-creds-x509,id=tls0,endpoint=client,dir=FOLDER "
        server = f"server.type=inet,server.host={host},server.port={port},export={export}{tls},reconnect-delay=60"
        lines = [
            f"nbdcopy disk.raw '{self.uri}{folder}'",
            f"qemu-img convert {creds and '-'}{creds}--image-opts -O raw "
            f"driver=nbd,host={host},port={port},export={export}{tls} disk.raw",
            f"qemu-system-x86_64 {creds}-blockdev driver=nbd,node-name=disk0,{server} "
            "-device virtio-blk-pci,drive=disk0",
        ]
        return "\n".join(lines)


def disk_lines(disks: Iterable[VirtualDisk]) -> tuple[list[DiskLine], str]:
    """The lines, and why nothing is known of their states ("" when it is)."""
    rows, error = list(disks), ""
    states: dict[UUID, DiskState] = {}
    try:
        states = states_of(disk.pk for disk in rows)
    except (Refused, StargateError) as failure:
        error = failure.message
    return [DiskLine(disk, nbd_uri(disk), states.get(disk.pk)) for disk in rows], error
