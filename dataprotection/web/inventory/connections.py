# SPDX-License-Identifier: Apache-2.0
"""Disks with their NBD address and who is connected, for one entity's page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from dataprotection.models import VirtualDisk
from dataprotection.services.disks import nbd_uri
from prism.core.engine import engine
from prism.core.exceptions import Refused
from stargate.errors import StargateError


@dataclass(frozen=True)
class DiskLine:
    """A disk as its entity's page shows it. `role` "" and no connections while the engine does not answer."""

    disk: VirtualDisk
    uri: str
    role: str
    reason: str
    reopen: bool
    write_through: bool
    connections: list[dict[str, Any]]

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

    @property
    def writers(self) -> list[dict[str, Any]]:
        """Connections that have written."""
        return [found for found in self.connections if found.get("writes")]


def disk_lines(disks: Iterable[VirtualDisk]) -> tuple[list[DiskLine], str]:
    """The lines, and why nothing is known of connections ("" when it is)."""
    lines, error = [], ""
    for disk in disks:
        state: dict[str, Any] = {}
        if not error:
            try:
                state = dict(engine().vdisk(str(disk.pk)))
            except (Refused, StargateError, OSError) as failure:
                error = str(failure) or "The block engine does not answer."
        connections = state.get("connections") or []
        lines.append(
            DiskLine(
                disk,
                nbd_uri(disk),
                str(state.get("role", "")),
                str(state.get("reason") or ""),
                bool(state.get("reopen")),
                bool(state.get("write_through")),
                list(connections),
            )
        )
    return lines, error
