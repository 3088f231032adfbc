# SPDX-License-Identifier: Apache-2.0
"""Remote sites, replications, inventory, tasks, alerts, tokens and the site itself."""

from __future__ import annotations

from typing import Any

import click

from prism.cli import nouns, waiting
from prism.cli.client import segment
from prism.cli.errors import CliError, Exit
from prism.cli.nouns import ALERT, REMOTE_SITE, REPLICATION, TASK, TOKEN, VM, VOLUME_GROUP
from prism.cli.session import Session, command, confirm, yes_option

remote_sites = nouns.group_of(REMOTE_SITE)
replications = nouns.group_of(REPLICATION)
tasks = nouns.group_of(TASK)
alerts = nouns.group_of(ALERT)
vms = nouns.group_of(VM)
volume_groups = nouns.group_of(VOLUME_GROUP)
containers = nouns.group_of(nouns.CONTAINER)
files = nouns.group_of(nouns.FILE)
tokens = nouns.group_of(TOKEN)
plain = [nouns.group_of(noun) for noun in (nouns.DISK, nouns.EVENT, nouns.AUDIT)]
site = click.Group("site", help="The site that answers.")
_SIZES = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


class Size(click.ParamType[int]):
    """Bytes: a number, with K, M, G or T for powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).lower().removesuffix("ib").removesuffix("b")
        unit = _SIZES.get(text[-1:], 1)
        digits = text[:-1] if unit > 1 else text
        if not digits.isdecimal():
            self.fail(f"{value!r} is not a size such as 512M or 10G.", param, ctx)
        return int(digits) * unit


@command(site, "show")
def show_site(session: Session) -> None:
    """Name, uuid and version of the site."""
    session.show(session.client.get("site/"))


@command(remote_sites, "pairing-code")
def pairing_code(session: Session) -> None:
    """Show a one-time code, for `remote-site pair` on the other site."""
    session.show(session.client.post("remote-sites/pairing-code/"))


@command(remote_sites, "pair")
@click.argument("host")
@click.option("--code", envvar="PRISM_PAIRING_CODE", help="The code that the other site shows; asked for without it.")
@click.option("--port", type=click.IntRange(1, 65535), default=2020, show_default=True)
def pair(session: Session, host: str, code: str | None, port: int) -> None:
    """Pair with the site that shows a code; compare the fingerprints afterwards."""
    code = code or click.prompt("Code shown by the other site", err=True)
    found = session.client.post("remote-sites/pair/", {"host": host, "code": code, "control_port": port})
    session.show(found)
    click.echo("Compare pairing_fingerprint with the one that the other site shows for this site.", err=True)


@command(remote_sites, "test")
@click.argument("name")
def test(session: Session, name: str) -> None:
    """Ask the remote site now."""
    session.show(session.client.post(f"remote-sites/{REMOTE_SITE.key(session, name)}/test/"))


@command(remote_sites, "unpair")
@click.argument("name")
@yes_option
def unpair(session: Session, name: str, yes: bool) -> None:
    """End the pairing on both sites."""
    key = REMOTE_SITE.key(session, name)
    confirm(f"End the pairing with {name}?", yes=yes)
    session.show(session.client.post(f"remote-sites/{key}/unpair/"))


@command(remote_sites, "rm")
@click.argument("name")
@yes_option
def remove_remote_site(session: Session, name: str, yes: bool) -> None:
    """Delete a remote site."""
    key = REMOTE_SITE.key(session, name)
    confirm(f"Delete the remote site {name}?", yes=yes)
    session.client.call("DELETE", f"remote-sites/{key}/")


def _verb(group: click.Group, path: str, verb: str, text: str) -> None:
    def ordering(session: Session, key: str) -> None:
        session.show(session.client.post(f"{path}/{segment(key)}/{verb}/"))

    ordering.__doc__ = text
    command(group, verb)(click.argument("key")(ordering))


_verb(replications, "replications", "pause", "Hold a replication.")
_verb(replications, "replications", "resume", "Go on with a held one.")
_verb(replications, "replications", "abort", "Give a replication up.")
_verb(alerts, "alerts", "acknowledge", "Say that somebody looks after it.")
_verb(alerts, "alerts", "resolve", "Say that it is over.")


@command(tasks, "wait")
@click.argument("key")
@click.option("--timeout", type=click.FloatRange(min=0.1), help="Give up after so many seconds.")
def wait(session: Session, key: str, **_: object) -> None:
    """Wait until a task is over; exit status 8 when it failed."""
    session.show_task(waiting.follow(session.client, key, limit_seconds=session.timeout_seconds))


@command(containers, "create")
@click.argument("name")
def create_container(session: Session, name: str) -> None:
    """Make a storage container."""
    session.show(session.client.post("containers/", {"name": name}))


@command(vms, "create")
@click.argument("name")
@click.option("--ctr", default="default", show_default=True, help="Its container.")
@click.option("--disk", multiple=True, type=Size(), help="Size of a disk, such as 10G; repeatable.")
@click.option("--vcpus", type=click.IntRange(min=1))
@click.option("--memory", type=Size(), help="Such as 2G.")
def create_vm(
    session: Session, name: str, ctr: str, disk: tuple[int, ...], vcpus: int | None, memory: int | None
) -> None:
    """Make a virtual machine, powered off."""
    body: dict[str, Any] = {"name": name, "container": ctr, "disks": [{"size_bytes": size} for size in disk]}
    body |= {key: value for key, value in (("vcpus", vcpus), ("memory_bytes", memory)) if value}
    session.show(session.client.post("vms/", body))


@command(volume_groups, "create")
@click.argument("name")
@click.option("--ctr", default="default", show_default=True, help="Its container.")
@click.option("--disk", multiple=True, type=Size(), help="Size of a disk, such as 10G; repeatable.")
def create_volume_group(session: Session, name: str, ctr: str, disk: tuple[int, ...]) -> None:
    """Make a volume group."""
    body = {"name": name, "container": ctr, "disks": [{"size_bytes": size} for size in disk]}
    session.show(session.client.post("volume-groups/", body))


def _removal(group: click.Group, noun: nouns.Noun) -> None:
    def removing(session: Session, name: str, yes: bool) -> None:
        row = noun.find(session, name)
        confirm(f"Delete {noun.name} {name}?", yes=yes)
        session.client.call("DELETE", f"{noun.path}/{row.get('uuid') or row['id']}/")

    removing.__doc__ = "Revoke a token: it stops working at once." if noun is TOKEN else "Delete one."
    command(group, "rm")(click.argument("name")(yes_option(removing)))


for _group, _noun in (
    (vms, VM),
    (volume_groups, VOLUME_GROUP),
    (files, nouns.FILE),
    (containers, nouns.CONTAINER),
    (tokens, TOKEN),
):
    _removal(_group, _noun)


@command(volume_groups, "attach")
@click.argument("name")
@click.option("--vm", required=True, help="Name or uuid of the VM.")
def attach(session: Session, name: str, vm: str) -> None:
    """Attach a volume group to a VM."""
    path = f"volume-groups/{VOLUME_GROUP.key(session, name)}/attach/"
    session.show(session.client.post(path, {"vm": VM.key(session, vm)}))


@command(site, "integrity")
def integrity(session: Session) -> None:
    """Whether what is stored is whole; exit status 6 when it is not."""
    found = session.client.get("integrity/")
    session.show(found)
    if found["damaged"] or found["log_damage"]:
        raise CliError("Stored data is damaged.", "docs/operations.md says what to do.", code=Exit.REFUSED)


GROUPS = [site, remote_sites, replications, tasks, alerts, vms, volume_groups, containers, files, tokens, *plain]
