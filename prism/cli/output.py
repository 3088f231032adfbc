# SPDX-License-Identifier: Apache-2.0
"""Rows as a table for people, or as the API gave them in JSON or YAML for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from prism.cli.client import Row
from prism.cli.errors import printable

Column = tuple[str, str]
"""Heading and key; `entities#` counts a list, `remotes.site` looks into objects."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def show_rows(rows: Sequence[Row], columns: Sequence[Column], form: str) -> None:
    """A list on stdout; an empty table says nothing there."""
    if form != "table":
        return dump(list(rows), form)
    if not rows:
        return click.echo("Nothing to show.", err=True)
    cells = [[title for title, _ in columns], *([cell(row, key) for _, key in columns] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    for line in cells:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def show_one(row: Any, form: str) -> None:
    """One object: `key: value` lines, nested ones indented."""
    if form != "table":
        return dump(row, form)
    _lines(row, 0)


def dump(value: Any, form: str) -> None:
    if form == "json":
        return click.echo(json.dumps(value, indent=2))
    import yaml  # not at the top: it costs 30 ms

    click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=False), nl=False)


def cell(row: Row, key: str) -> str:
    """The text of a table's cell; `-` for null."""
    name = key.removesuffix("#")
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if key.endswith("#"):
        return str(len(value or []))
    return _text(name, value)


def _text(key: str, value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and _is_bytes(key):
        return size(value)
    if isinstance(value, str) and (key == "at" or key.endswith("_at")):
        return local_time(value)
    if isinstance(value, list):
        return ", ".join(printable(part) for part in value) or "-"
    return printable(value)


def _is_bytes(key: str) -> bool:
    return key.endswith(("_bytes", "_in_bytes"))


def size(count: int) -> str:
    """Bytes in the largest unit that leaves a digit before the point."""
    value, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if abs(value) < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def local_time(text: str) -> str:
    """ISO time in the zone of this machine, with its offset; other text as it is."""
    try:
        return datetime.fromisoformat(text).astimezone().isoformat(" ", "seconds")
    except ValueError:
        return printable(text)


def _lines(value: Any, depth: int) -> None:
    pad = "  " * depth
    if isinstance(value, list):
        for part in value:
            if isinstance(part, dict):
                click.echo(f"{pad}-")
                _lines(part, depth + 1)
            else:
                click.echo(f"{pad}- {_text('', part)}")
        return
    if not isinstance(value, dict):
        return click.echo(f"{pad}{_text('', value)}")
    for key, part in value.items():
        if isinstance(part, dict | list) and part:
            click.echo(f"{pad}{printable(key)}:")
            _lines(part, depth + 1)
        else:
            click.echo(f"{pad}{printable(key)}: {_text(key, part if part not in ({}, []) else None)}")
