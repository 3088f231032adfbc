# SPDX-License-Identifier: Apache-2.0
"""From nothing to two running, paired sites: the order of steps, and which of them are done only once."""

import asyncio
import secrets
import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.core.management import get_commands

from prism.layout import DEFAULT_PORTS, Layout, SiteConfig
from prism.runtime import preflight
from prism.runtime.certificates import ensure_web_certificate
from prism.runtime.children import ROOT, embedded_postgres, web_address
from prism.runtime.screen import Screen
from prism.runtime.supervisor import Site, Supervisor, write_heartbeat
from stargate.peer.identity import CERTIFICATE_FILE, create_identity

USER = "admin"
#: Commands other parts of the product bring; each runs once per data folder, in this order.
_PAIR_COMMAND = "pair_local"
_DEMO_COMMAND = "demo_content"


@dataclass(frozen=True)
class Plan:
    """What `make up` was asked for. `listen` None means loopback: site n on 127.0.0.n, called siten.

    A site that others reach is called `name`, or after its machine: two machines must not both be called site1.
    """

    root: Path
    sites: int
    listen: str | None
    name: str | None = None

    def address(self, number: int) -> str:
        return self.listen or f"127.0.0.{number}"

    def site_name(self) -> str | None:
        """Name of a new site, None for the usual one."""
        return self.name or (socket.gethostname().partition(".")[0] if self.listen else None)

    def layout(self, number: int) -> Layout:
        return Layout(self.root / f"site{number}")

    @property
    def numbers(self) -> range:
        return range(1, self.sites + 1)


def check(plan: Plan) -> None:
    """Everything that can be known to fail before anything is started. Raises `PreflightError` or `LayoutError`."""
    if (plan.listen or plan.name) and plan.sites != 1:
        raise preflight.PreflightError("LISTEN= and NAME= are for one site per machine: give SITES=1 with them.")
    preflight.check_folder(plan.root)
    preflight.check_space(plan.root)
    for number in plan.numbers:
        address = plan.address(number)
        preflight.check_address(address)
        preflight.check_owner(plan.layout(number).data)
        config = plan.layout(number).load()
        preflight.check_socket_paths(plan.layout(number).run)
        preflight.check_ports(address, config.ports if config else DEFAULT_PORTS)


def open_site(plan: Plan, number: int) -> tuple[Layout, SiteConfig]:
    """The site's folder, identity, certificates and secret key; made at the first start, kept afterwards."""
    layout, address = plan.layout(number), plan.address(number)
    config = layout.load() or layout.create(number=number, listen=address, name=plan.site_name())
    layout.make_folders()
    if config.listen != address:
        config.listen = address
        layout.save(config)
    layout.renew_socket_dir(config)
    if not (layout.identity / CERTIFICATE_FILE).exists():
        create_identity(layout.identity, f"{config.name} {config.uuid[:8]}")
    ensure_web_certificate(layout.identity, site_name=config.name, listen=config.listen)
    if not layout.secret_key_file.exists():
        layout.secret_key_file.touch(mode=0o600)
    if not layout.secret_key_file.read_text(encoding="ascii"):
        layout.secret_key_file.write_text(secrets.token_urlsafe(50), encoding="ascii")
    return layout, config


async def bring_up(plan: Plan, supervisor: Supervisor, screen: Screen) -> dict[str, str]:
    """Start all sites; returns the passwords made by this start, by site name (none at a later start)."""
    sites = [supervisor.add(*open_site(plan, number)) for number in plan.numbers]
    passwords: dict[str, str] = {}
    # The sites come up one after the other: on two cores that is as quick, and the lines stay readable.
    for site in sites:
        await supervisor.start_stage(site, 0)
        password = await _prepare_database(site, supervisor)
        if password:
            passwords[site.name] = password
        await supervisor.start_stage(site, 1)
    if len(sites) == 2:
        await _once(sites[0], "paired", _PAIR_COMMAND, supervisor)
        await _once(sites[0], "demo", _DEMO_COMMAND, supervisor)
    return passwords


async def _prepare_database(site: Site, supervisor: Supervisor) -> str | None:
    """Database, migrations, the site's row and the first administrator; returns a new password or None."""
    if any(child.spec.name == "postgres" for child in site.children):
        await asyncio.to_thread(embedded_postgres(site.layout, site.config).ensure_database, "prism")
    await supervisor.run_step(site, "migrations", manage("migrate", "--no-input", "-v", "0"))
    if "admin" in site.config.steps:
        return None
    output = await supervisor.run_step(site, "administrator", manage("first_admin", USER))
    _record(site, "admin")
    return output.strip() or None


async def _once(site: Site, step: str, command: str, supervisor: Supervisor) -> None:
    """Run a first-start command unless site.json says it is done."""
    if step in site.config.steps or command not in get_commands():
        return
    await supervisor.run_step(site, command.replace("_", " "), manage(command))
    _record(site, step)


def _record(site: Site, step: str) -> None:
    site.config.steps[step] = datetime.now(UTC).isoformat(timespec="seconds")
    site.layout.save(site.config)


def manage(*arguments: str) -> list[str]:
    """Command line of a management command."""
    return [sys.executable, str(ROOT / "manage.py"), *arguments]


def announce(supervisor: Supervisor, passwords: dict[str, str], screen: Screen) -> None:
    """Addresses, user and password, and how to go on. From here on `make status` says the same."""
    for site in supervisor.sites:
        write_heartbeat(site)
    screen.say("\nPrism DR is running.\n")
    for site in supervisor.sites:
        config = site.config
        password = passwords.get(site.name)
        known = password or f"as before (`make password SITE={config.number}` sets a new one)"
        screen.say(f"  {site.name}   {web_address(config)}   (own certificate: the browser asks once)")
        screen.say(f"          user {USER}   password {known}")
        screen.say(f"          NBD disks: {config.listen}:{config.ports['nbd']}   data and logs: {site.layout.data}")
    if len(supervisor.sites) == 1:
        config = supervisor.sites[0].config
        screen.say(
            f"\n  To pair with another machine: Remote Sites > Show pairing code here, and enter the code and\n"
            f"  {config.listen}:{config.ports['control']} there."
        )
    screen.say("\n  Ctrl-C stops what was started here. The data stays; `make up` continues.\n")
