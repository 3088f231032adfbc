# SPDX-License-Identifier: Apache-2.0
"""`prism pd ...` and `prism schedule ...`: orders on protection domains."""

from __future__ import annotations

from typing import Any

import click

from prism.cli import nouns
from prism.cli.errors import CliError, Exit
from prism.cli.nouns import DOMAIN, FILE, REMOTE_SITE, SCHEDULE, SNAPSHOT, VM, VOLUME_GROUP, not_both
from prism.cli.session import Function, Session, command, confirm, yes_option

domains = nouns.group_of(DOMAIN)
schedules = nouns.group_of(SCHEDULE)
_pd = click.argument("pd")


def _path(session: Session, pd: str, verb: str = "") -> str:
    return f"protection-domains/{DOMAIN.key(session, pd)}/{f'{verb}/' if verb else ''}"


def _entities(function: Function) -> Function:
    for name, noun in (("file", FILE), ("vg", VOLUME_GROUP), ("vm", VM)):
        function = click.option(f"--{name}", multiple=True, help=f"Name or uuid; of {noun.path}, repeatable.")(function)
    return function


def _keys(session: Session, vm: tuple[str, ...], vg: tuple[str, ...], file: tuple[str, ...]) -> list[str]:
    """Uuids of the entities that the options name."""
    wanted = [(VM, name) for name in vm] + [(VOLUME_GROUP, name) for name in vg] + [(FILE, name) for name in file]
    return [noun.key(session, name) for noun, name in wanted]


@command(domains, "create")
@_pd
def create(session: Session, pd: str) -> None:
    """Make an empty domain."""
    session.show(session.client.post("protection-domains/", {"name": pd}))


@command(domains, "rm")
@_pd
@yes_option
def remove(session: Session, pd: str, yes: bool) -> None:
    """Delete a domain; its snapshots here go with it."""
    path = _path(session, pd)
    confirm(f"Delete the protection domain {pd} with its snapshots on this site?", yes=yes)
    session.show(session.client.call("DELETE", path))


@command(domains, "protect")
@_pd
@_entities
@click.option("--ctr", help="A whole container, by name, instead of entities.")
@click.option("--cg-name", help="The consistency group they join; it is made when there is none. Default: one each.")
@click.option("--app-consistent-snapshots", is_flag=True, help="Ask for application-consistent snapshots.")
@click.option("--related", is_flag=True, help="Also what hangs on them, such as attached volume groups.")
def protect(session: Session, pd: str, ctr: str | None, cg_name: str | None, **chosen: Any) -> None:
    """Put entities into a domain."""
    app, related = chosen.pop("app_consistent_snapshots"), chosen.pop("related")
    keys = _keys(session, **chosen)
    not_both(ctr=ctr, vm=keys)
    domain = DOMAIN.find(session, pd)
    body: dict[str, Any] = {"container": ctr}
    if keys:
        groups = {str(group["name"]) for group in domain["groups"]}
        mode = "entity_name" if not cg_name else "existing" if cg_name in groups else "new"
        body = {"entities": keys, "group_mode": mode, "group_name": cg_name or "", "app_consistent": app}
        body["related"] = related
    session.show(session.client.post(f"protection-domains/{domain['uuid']}/protect/", body))


@command(domains, "unprotect")
@_pd
@click.argument("names", nargs=-1, required=True)
def unprotect(session: Session, pd: str, names: tuple[str, ...]) -> None:
    """Take entities out of a domain, by name or uuid."""
    domain = DOMAIN.find(session, pd)
    rows = {name: [row for row in domain["entities"] if name in (row["name"], row["entity"])] for name in names}
    for name, found in rows.items():
        if len(found) != 1:
            text = "is not protected by" if not found else "names several entities of"
            raise CliError(f"{name!r} {text} {pd}.", f"`prism pd show {pd}` lists them.", code=Exit.NOT_FOUND)
    body = {"entities": [found[0]["id"] for found in rows.values()]}
    session.show(session.client.post(f"protection-domains/{domain['uuid']}/unprotect/", body))


def _sites(session: Session, names: tuple[str, ...]) -> list[str]:
    return [REMOTE_SITE.key(session, name) for name in names]


@command(domains, "snapshot", order=True)
@_pd
@click.option("--remote-site", multiple=True, help="Also replicate to this site; repeatable.")
@click.option("--retention-time", type=click.IntRange(min=1), help="Seconds until it expires; default: never.")
@click.option("--snap-time", help="Not now but then (ISO 8601 with offset).")
@click.option("--app-consistent-snapshots", is_flag=True)
def snapshot(session: Session, pd: str, remote_site: tuple[str, ...], **chosen: Any) -> None:
    """Take a snapshot (create-one-time-snapshot). The task ends when it is taken; `replication ls` shows the rest."""
    body = {
        "sites": _sites(session, remote_site),
        "retention_seconds": chosen["retention_time"],
        "run_at": chosen["snap_time"],
        "app_consistent": chosen["app_consistent_snapshots"],
    }
    session.ordered(session.client.post(_path(session, pd, "take-snapshot"), body, key=session.key))


@command(domains, "migrate", order=True)
@_pd
@click.option("--remote-site", required=True, help="Where it goes.")
@yes_option
def migrate(session: Session, pd: str, remote_site: str, yes: bool) -> None:
    """Planned move to a remote site; guests are stopped here, and nothing acknowledged is lost."""
    body = {"site": REMOTE_SITE.key(session, remote_site)}
    path = _path(session, pd, "migrate")
    confirm(f"Migrate {pd} to {remote_site}? Its disks stop here.", yes=yes)
    session.ordered(session.client.post(path, body, key=session.key))


@command(domains, "activate", order=True)
@_pd
@click.option("--snap-id", help="From this snapshot (id or uuid); default: the newest complete one.")
@click.option("--force", is_flag=True, help="You vouch that no other site serves it.")
@yes_option
def activate(session: Session, pd: str, snap_id: str | None, force: bool, yes: bool) -> None:
    """Unplanned: bring a domain up here, because its site is gone."""
    domain = DOMAIN.key(session, pd)
    body: dict[str, Any] = {"force": force}
    if snap_id:
        body["snapshot"] = SNAPSHOT.find(session, snap_id, domain=domain)["uuid"]
    confirm(f"Activate {pd} here? What was written after the snapshot is not in it.", yes=yes)
    session.ordered(session.client.post(f"protection-domains/{domain}/activate/", body, key=session.key))


@command(domains, "deactivate", order=True)
@_pd
@yes_option
def deactivate(session: Session, pd: str, yes: bool) -> None:
    """The stale side gives up: its entities leave, a snapshot of them is kept (deactivate-and-destroy-vms)."""
    path = _path(session, pd, "deactivate")
    confirm(f"Deactivate {pd} on this site? Its entities leave.", yes=yes)
    session.ordered(session.client.post(path, key=session.key))


@command(domains, "add-schedule")
@_pd
@click.option("--every-nth-minute", type=click.IntRange(min=60))
@click.option("--every-nth-hour", type=click.IntRange(min=1))
@click.option("--every-nth-day", type=click.IntRange(min=1))
@click.option("--start-time", help="First snapshot (ISO 8601 with offset); default: now.")
@click.option("--end-time", help="No snapshot after (ISO 8601 with offset).")
@click.option("--timezone", help="Zone of days, such as Europe/Berlin; default UTC.")
@click.option("--local-retention", type=click.IntRange(min=1), help="Snapshots kept here; default 1.")
@click.option("--remote-retention", multiple=True, metavar="SITE:N", help="Replicate there, keep N; repeatable.")
def add_schedule(session: Session, pd: str, remote_retention: tuple[str, ...], **chosen: Any) -> None:
    """Take snapshots regularly."""
    units = {"MINUTELY": "every_nth_minute", "HOURLY": "every_nth_hour", "DAILY": "every_nth_day"}
    not_both(**{option: chosen[option] for option in units.values()})
    kind, every = next((kind, chosen[option]) for kind, option in units.items() if chosen[option])
    body: dict[str, Any] = {"type": kind, "every_nth": every}
    names = {"start_at": "start_time", "end_at": "end_time", "timezone": "timezone", "local_keep": "local_retention"}
    body |= {name: chosen[option] for name, option in names.items() if chosen[option]}
    body["remotes"] = [_keep(session, text) for text in remote_retention]
    session.show(session.client.post(_path(session, pd, "schedules"), body))


def _keep(session: Session, text: str) -> dict[str, Any]:
    site, _, count = text.rpartition(":")
    if not site or not count.isdigit():
        raise CliError(f"{text!r} is not SITE:N.", "For instance --remote-retention berlin:5.", code=Exit.USAGE)
    return {"site": REMOTE_SITE.key(session, site), "keep": int(count)}


@command(domains, "suspend-schedules")
@_pd
def suspend(session: Session, pd: str) -> None:
    """No schedule of the domain runs until they are resumed."""
    session.show(session.client.call("PATCH", _path(session, pd), body={"schedules_suspended": True}))


@command(domains, "resume-schedules")
@_pd
def resume(session: Session, pd: str) -> None:
    """Its schedules run again."""
    session.show(session.client.call("PATCH", _path(session, pd), body={"schedules_suspended": False}))


@command(schedules, "rm")
@click.argument("schedule")
@yes_option
def remove_schedule(session: Session, schedule: str, yes: bool) -> None:
    """Delete a schedule; the snapshots it made stay until they expire."""
    key = SCHEDULE.key(session, schedule)
    confirm(f"Delete the schedule {schedule}?", yes=yes)
    session.client.call("DELETE", f"schedules/{key}/")
