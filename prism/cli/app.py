# SPDX-License-Identifier: Apache-2.0
"""The root command: all nouns, `login`, and completion."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from prism.cli import config
from prism.cli.client import Client
from prism.cli.domains import domains, schedules
from prism.cli.errors import CliError, Exit
from prism.cli.others import GROUPS
from prism.cli.snapshots import snapshots

_COMPLETION_VARIABLE = "_PRISM_COMPLETE"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,75}")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def cli() -> None:
    """Prism DR from the command line. Exit statuses and configuration: docs/cli.md."""


for _group in (domains, schedules, snapshots, *GROUPS):
    cli.add_command(_group)


@cli.command()
@click.argument("name")
@click.option("--url", required=True, help="https://ADDRESS:PORT of the site.")
@click.option("--ca", type=click.Path(exists=True, dir_okay=False), help="Its certificate, or the authority's (PEM).")
def login(name: str, url: str, ca: str | None) -> None:
    """Remember a site. The token is asked for, or read from standard input; it is tried before it is written down."""
    if not _NAME.fullmatch(name):
        raise CliError(f"{name!r} is not a name: letters, digits, dots, hyphens, underscores.", code=Exit.USAGE)
    host, port = config.split_url(url)
    if sys.stdin.isatty():
        token = click.prompt("API token (console > API tokens)", hide_input=True, err=True)
    else:
        token = sys.stdin.readline()
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise CliError("There was no token.", "Make one in the console: account menu > API tokens.", code=Exit.USAGE)
    found = Client(config.Target(host, port, token, Path(ca) if ca else None)).get("site/")
    config.save(config.config_path(), name, url=url, token=token, ca=Path(ca) if ca else None)
    click.echo(f"{name} is site {found['name']}; kept in {config.config_path()}.")


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh"]))
def completion(shell: str) -> None:
    """Print what makes the shell complete `prism`: `source <(prism completion bash)`."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, shell  # click knows both
    click.echo(kind(cli, {}, "prism", _COMPLETION_VARIABLE).source())


def main() -> None:
    """Entry point; a closed pipe (`| head`) is no error."""
    cli(prog_name="prism", complete_var=_COMPLETION_VARIABLE)
