# SPDX-License-Identifier: Apache-2.0
"""`ls` and `show` of every noun, from one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import click

from prism.cli import output
from prism.cli.client import Row, segment
from prism.cli.errors import CliError, Exit
from prism.cli.output import Column
from prism.cli.session import Function, Session, command

LIMIT_DEFAULT = 100


@dataclass(frozen=True)
class Noun:
    """One kind of object. `by`: the field that names it beside the uuid, "" = its id alone does.

    `filters`: options of `ls` -> query parameter. `server_filter`: the API can look `by` up itself.
    """

    name: str
    path: str
    text: str
    columns: tuple[Column, ...]
    by: str = ""
    server_filter: bool = False
    filters: dict[str, str] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    of_domain: bool = False

    def find(self, session: Session, name: str, **query: object) -> Row:
        if not self.by:
            found: Row = session.client.get(f"{self.path}/{segment(name)}/")
            return found
        return session.find(self.path, name, by=self.by, server_filter=self.server_filter, **query)

    def key(self, session: Session, name: str) -> str:
        return str(self.find(session, name)["uuid"])


DOMAIN = Noun(
    "pd",
    "protection-domains",
    "Protection domains.",
    (
        ("NAME", "name"),
        ("MODE", "mode"),
        ("PHASE", "phase"),
        ("STALE", "stale_state"),
        ("ENTITIES", "entities#"),
        ("SUSPENDED", "schedules_suspended"),
        ("UUID", "uuid"),
    ),
    by="name",
    server_filter=True,
    filters={"mode": "mode", "phase": "phase"},
)
SNAPSHOT = Noun(
    "snapshot",
    "snapshots",
    "Restore points.",
    (
        ("ID", "id"),
        ("CREATE TIME", "created_at"),
        ("KIND", "kind"),
        ("STATE", "state"),
        ("EXPIRY TIME", "expires_at"),
        ("RECLAIMABLE", "exclusive_usage_in_bytes"),
        ("UUID", "uuid"),
    ),
    by="id",
    server_filter=True,
    filters={"state": "state", "kind": "kind"},
    flags={"include-expired": "include_expired"},
    of_domain=True,
)
SCHEDULE = Noun(
    "schedule",
    "schedules",
    "Schedules of domains.",
    (
        ("UUID", "uuid"),
        ("SCHEDULE", "text"),
        ("NEXT", "next_due_at"),
        ("KEEP HERE", "local_keep"),
        ("SUSPENDED", "suspended"),
    ),
    of_domain=True,
)
VM = Noun(
    "vm",
    "vms",
    "Virtual machines.",
    (
        ("NAME", "name"),
        ("CONTAINER", "container"),
        ("POWER", "power_state"),
        ("VCPUS", "vcpus"),
        ("MEMORY", "memory_bytes"),
        ("DISKS", "disks#"),
        ("UUID", "uuid"),
    ),
    by="name",
    server_filter=True,
    filters={"container": "container"},
)
VOLUME_GROUP = Noun(
    "vg",
    "volume-groups",
    "Volume groups.",
    (("NAME", "name"), ("CONTAINER", "container"), ("DISKS", "disks#"), ("VMS", "attachments#"), ("UUID", "uuid")),
    by="name",
    server_filter=True,
    filters={"container": "container"},
)
FILE = Noun(
    "file",
    "files",
    "Files.",
    (("PATH", "path"), ("CONTAINER", "container"), ("SIZE", "disk.size_bytes"), ("UUID", "uuid")),
    by="path",
    server_filter=True,
    filters={"container": "container"},
)
DISK = Noun(
    "disk",
    "disks",
    "Disks, with their NBD addresses.",
    (("EXPORT", "export_name"), ("SIZE", "size_bytes"), ("ROLE", "role"), ("NBD ADDRESS", "nbd_uri"), ("UUID", "uuid")),
    by="export_name",
)
CONTAINER = Noun(
    "ctr",
    "containers",
    "Storage containers.",
    (("NAME", "name"), ("COMPRESS", "compress"), ("CREATED", "created_at"), ("ID", "id")),
    by="name",
)
REMOTE_SITE = Noun(
    "remote-site",
    "remote-sites",
    "Remote sites.",
    (
        ("NAME", "name"),
        ("STATUS", "status"),
        ("CAPABILITY", "capability"),
        ("LATENCY S", "latency_seconds"),
        ("LAST SEEN", "last_seen_at"),
        ("FINGERPRINT", "pairing_fingerprint"),
        ("UUID", "uuid"),
    ),
    by="name",
)
REPLICATION = Noun(
    "replication",
    "replications",
    "What travels between sites.",
    (
        ("UUID", "uuid"),
        ("DIRECTION", "direction"),
        ("SITE", "site_name"),
        ("STATE", "state"),
        ("DONE", "done_bytes"),
        ("TOTAL", "total_bytes"),
        ("SENT", "wire_bytes"),
    ),
    filters={"state": "state", "direction": "direction"},
    of_domain=True,
)
TASK = Noun(
    "task",
    "tasks",
    "Long work.",
    (
        ("UUID", "uuid"),
        ("KIND", "kind"),
        ("OBJECT", "object_name"),
        ("STATE", "state"),
        ("%", "percent"),
        ("STALLED", "stalled"),
        ("CREATED", "created_at"),
        ("MESSAGE", "message"),
    ),
    filters={"state": "state", "kind": "kind"},
)
ALERT = Noun(
    "alert",
    "alerts",
    "What needs somebody.",
    (
        ("ID", "id"),
        ("SEVERITY", "severity"),
        ("TITLE", "title"),
        ("OBJECT", "object_name"),
        ("RAISED", "raised_at"),
        ("ACKNOWLEDGED", "acknowledged_at"),
        ("RESOLVED", "resolved_at"),
    ),
    filters={"severity": "severity", "kind": "kind"},
    flags={"unresolved": "unresolved"},
)
EVENT = Noun(
    "event",
    "events",
    "What happened.",
    (
        ("ID", "id"),
        ("TIME", "at"),
        ("SEVERITY", "severity"),
        ("KIND", "kind"),
        ("OBJECT", "object_name"),
        ("MESSAGE", "message"),
    ),
    filters={"severity": "severity", "kind": "kind"},
)
AUDIT = Noun(
    "audit",
    "audit",
    "Who ordered what.",
    (
        ("ID", "id"),
        ("TIME", "at"),
        ("ACTOR", "actor"),
        ("VERB", "verb"),
        ("OBJECT", "object_name"),
        ("OUTCOME", "outcome"),
    ),
    filters={"actor": "actor", "verb": "verb", "outcome": "outcome"},
)
TOKEN = Noun(
    "token",
    "tokens",
    "Your API tokens; never the tokens themselves.",
    (
        ("ID", "id"),
        ("NAME", "name"),
        ("CREATED", "created_at"),
        ("LAST USED", "last_used_at"),
        ("EXPIRES", "expires_at"),
    ),
)
ALL = (
    DOMAIN,
    SNAPSHOT,
    SCHEDULE,
    VM,
    VOLUME_GROUP,
    FILE,
    DISK,
    CONTAINER,
    REMOTE_SITE,
    REPLICATION,
    TASK,
    ALERT,
    EVENT,
    AUDIT,
    TOKEN,
)


def group_of(noun: Noun) -> click.Group:
    """A group with `ls` (also `list`) and `show`."""
    group = click.Group(noun.name, help=noun.text)
    _add_list(group, noun)
    _add_show(group, noun)
    return group


def _add_list(group: click.Group, noun: Noun) -> None:
    def listing(session: Session, limit: int, pd: str | None = None, **chosen: Any) -> None:
        query = {noun.filters[name]: value for name, value in chosen.items() if name in noun.filters and value}
        query |= {parameter: "true" for flag, parameter in noun.flags.items() if chosen.get(flag.replace("-", "_"))}
        if pd:
            query["domain"] = DOMAIN.key(session, pd)
        rows, total = session.client.rows(f"{noun.path}/", limit=limit, **query)
        output.show_rows(rows, noun.columns, session.form)
        if total > len(rows):
            click.echo(f"{len(rows)} of {total} are shown; --limit 0 shows all.", err=True)

    function: Function = listing
    function.__doc__ = f"List: {noun.text[0].lower()}{noun.text[1:]}"
    for name in noun.filters:
        function = click.option(f"--{name}", help=f"Only those with this {name}.")(function)
    for flag, parameter in noun.flags.items():
        function = click.option(f"--{flag}", is_flag=True, help=f"Sets {parameter}.")(function)
    if noun.of_domain:
        function = click.option("--pd", help="Only those of this protection domain.")(function)
    limit = click.option(
        "--limit", type=click.IntRange(min=0), default=LIMIT_DEFAULT, show_default=True, help="Rows at most; 0 = all."
    )
    function = limit(function)
    group.add_command(command(group, "ls")(function), "list")


def _add_show(group: click.Group, noun: Noun) -> None:
    def showing(session: Session, name: str) -> None:
        found = noun.find(session, name)
        if noun.by:
            found = session.client.get(f"{noun.path}/{found.get('uuid') or found['id']}/")
        session.show(found)

    showing.__doc__ = f"Show one, by uuid{f' or {noun.by}' if noun.by else ''}."
    command(group, "show")(click.argument("name")(showing))


def not_both(**values: object) -> None:
    """Refuse a command line that names none or several of these."""
    given = [name for name, value in values.items() if value]
    if len(given) != 1:
        words = " or ".join(f"--{name.replace('_', '-')}" for name in values)
        raise CliError(f"Give one of {words}.", code=Exit.USAGE)
