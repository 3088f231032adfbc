# SPDX-License-Identifier: Apache-2.0
"""`prism snapshot ...`: restore, clone, keep, delete."""

from __future__ import annotations

from typing import Any

import click

from prism.cli import nouns
from prism.cli.errors import CliError, Exit
from prism.cli.nouns import SNAPSHOT
from prism.cli.session import Function, Session, command, confirm, yes_option

snapshots = nouns.group_of(SNAPSHOT)
_snapshot = click.argument("snap_id")


def _only(function: Function) -> Function:
    return click.option("--entity", multiple=True, help="Only this one (name or uuid); repeatable.")(function)


def _chosen(session: Session, row: dict[str, Any], entity: tuple[str, ...]) -> list[str] | None:
    """Uuids of the snapshot's entities that were named; None = all."""
    if not entity:
        return None
    full = session.client.get(f"snapshots/{row['uuid']}/")
    known = full["manifest"]["entities"]
    keys = []
    for name in entity:
        fitting = [str(found["uuid"]) for found in known if name in (found["name"], found["uuid"])]
        if len(fitting) != 1:
            raise CliError(
                f"{name!r} {'is not in' if not fitting else 'names several entities of'} snapshot {row['id']}.",
                f"It holds: {', '.join(str(found['name']) for found in known)}.",
                code=Exit.NOT_FOUND,
            )
        keys += fitting
    return keys


@command(snapshots, "restore", order=True)
@_snapshot
@_only
@click.option("--disconnect-writers", is_flag=True, help="End the connections of clients that use the disks.")
@yes_option
def restore(session: Session, snap_id: str, entity: tuple[str, ...], disconnect_writers: bool, yes: bool) -> None:
    """Overwrite existing entities with the snapshot; a safety snapshot of how they stand is taken first."""
    row = SNAPSHOT.find(session, snap_id)
    body = {"entities": _chosen(session, row, entity), "disconnect_writers": disconnect_writers}
    confirm(f"Overwrite the entities with snapshot {row['id']} of {row['created_at']}?", yes=yes)
    session.ordered(session.client.post(f"snapshots/{row['uuid']}/restore/", body, key=session.key))


@command(snapshots, "clone", order=True)
@_snapshot
@_only
@click.option("--vm-name-prefix", help="Put before the names of new VMs.")
@click.option("--vg-name-prefix", help="Put before the names of new volume groups.")
@click.option("--path-prefix", help="Put before the paths of new files.")
def clone(session: Session, snap_id: str, entity: tuple[str, ...], **prefixes: str | None) -> None:
    """Create new entities from the snapshot, powered off and not protected."""
    row = SNAPSHOT.find(session, snap_id)
    body: dict[str, Any] = {"entities": _chosen(session, row, entity)}
    words = {"vm_prefix": "vm_name_prefix", "volume_group_prefix": "vg_name_prefix", "file_prefix": "path_prefix"}
    body |= {field: prefixes[option] for field, option in words.items() if prefixes[option] is not None}
    session.ordered(session.client.post(f"snapshots/{row['uuid']}/clone/", body, key=session.key))


@command(snapshots, "retain")
@_snapshot
@click.option("--retention-time", type=click.IntRange(min=1), help="Seconds from now; default: no expiration.")
def retain(session: Session, snap_id: str, retention_time: int | None) -> None:
    """Change when a snapshot expires."""
    key = SNAPSHOT.key(session, snap_id)
    session.show(session.client.post(f"snapshots/{key}/retain/", {"retention_seconds": retention_time}))


@command(snapshots, "recoverability")
@_snapshot
def recoverability(session: Session, snap_id: str) -> None:
    """Per entity: whether and where it can be recovered, else why not."""
    session.show(session.client.get(f"snapshots/{SNAPSHOT.key(session, snap_id)}/recoverability/"))


@command(snapshots, "rm")
@_snapshot
@yes_option
def remove(session: Session, snap_id: str, yes: bool) -> None:
    """Delete a snapshot on this site."""
    row = SNAPSHOT.find(session, snap_id)
    confirm(f"Delete snapshot {row['id']} of {row['created_at']} on this site?", yes=yes)
    session.client.call("DELETE", f"snapshots/{row['uuid']}/")
