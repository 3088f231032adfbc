# SPDX-License-Identifier: Apache-2.0
"""From samples to rows: medians, ratios, bars; `results.md` and `results.json`."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Bar:
    """Ours against the best of `peers` must be >= `limit`, or <= when `most`; without peers ours itself must."""

    row: str
    limit: float | None
    peers: tuple[str, ...] = ()
    most: bool = False


_GUEST_PEERS = ("qemu-nbd", "nbdkit")
_GUEST: dict[str, tuple[float, float]] = {
    "4K random write QD32, burst": (2.5, 1.1),
    "4K random write QD32, sustained": (1.8, 1.0),
    "4K random write QD1": (1.2, 0.8),
    "4K write + flush each, QD1": (1.1, 0.9),
    "4K random read QD32, recent": (3.0, 1.3),
    "4K random read QD32, drained warm": (2.0, 0.9),
    "1M sequential write, burst": (1.2, 0.8),
    "1M sequential write, sustained": (1.2, 0.8),
    "1M sequential read": (1.0, 0.8),
}
_BACKUP = ("restic", "borg", "Benji (given)")
GIVEN = {
    ("replication, full", "Benji (given)"): 10.6,
    ("replication, restore", "Benji (given)"): 9.8,
    ("replication, increment", "rbd export-diff (given)"): 1.8,
}
"""Seconds measured once, elsewhere, of tools that this machine does not have (issue 3)."""

SNAPSHOT_ROW = "snapshot of 32 disks of 1 TiB, order to durable"
SNAPSHOT_BYTES_ROW = "bytes copied by that snapshot"
CLONE_ROW = "clone of a disk of 1 TiB"
DIFF_ROW = "diff of two versions of 1 TiB, 1,000 changed chunks"
NEIGHBOUR_ROW = "guest p99 during drain and replication / quiet"
STALL_ROW = "longest turn of the front's loop"
MEMORY_ROW = "anonymous memory, front and store, after the sustained rows"

BARS: list[Bar] = [
    *(
        Bar(row, limit, (peer,))
        for row, limits in _GUEST.items()
        for peer, limit in zip(_GUEST_PEERS, limits, strict=True)
    ),
    Bar(NEIGHBOUR_ROW, 2.0, most=True),
    Bar(SNAPSHOT_ROW, 5.0, most=True),
    Bar(SNAPSHOT_BYTES_ROW, 0.0, most=True),
    Bar(CLONE_ROW, 10.0, most=True),
    Bar(DIFF_ROW, 100.0, most=True),
    Bar(STALL_ROW, 2.0, most=True),
    Bar(MEMORY_ROW, 512.0, most=True),
    *(
        bar
        for tail in ("", ", from drained data")
        for bar in (
            Bar("replication, full" + tail, 0.8, _BACKUP, most=True),
            Bar("replication, increment" + tail, 1.0, ("rbd export-diff (given)",), most=True),
            Bar("replication, increment" + tail, 2.0, ("btrfs send",), most=True),
            Bar("replication, restore" + tail, 1.0, ("restic", "borg"), most=True),
        )
    ),
    Bar("replication, full: bytes on the wire", 1.1, ("ideal",), most=True),
    Bar("replication, increment: bytes on the wire", 1.1, ("ideal",), most=True),
]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: `value` in `unit`; `note` are the figures beside it."""

    row: str
    server: str
    value: float
    unit: str
    note: dict[str, float]


def machine() -> dict[str, Any]:
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**20, 1),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    commands = {"fio": ["fio", "--version"], "qemu-nbd": ["qemu-nbd", "--version"], "nbdkit": ["nbdkit", "--version"]}
    found = {name: _first_line(command) for name, command in commands.items()}
    return {
        **found,
        "python": platform.python_version(),
        "stargate": _first_line(["git", "rev-parse", "--short", "HEAD"]),
    }


def rows(samples: list[Sample]) -> list[dict[str, Any]]:
    """One row per kind of work and bar, in the order of measurement; `holds` None where there is no bar."""
    result: list[dict[str, Any]] = []
    for name in dict.fromkeys(sample.row for sample in samples):
        ours = _median(samples, name, "stargate")
        if ours is None:
            continue
        unit = next(sample.unit for sample in samples if sample.row == name)
        bars = [bar for bar in BARS if bar.row == name]
        if not bars:
            peers = [p for p in _GUEST_PEERS if _median(samples, name, p) is not None]
            bars = [Bar(name, None, (peer,)) for peer in peers] or [Bar(name, None)]
        result += [row for bar in bars if (row := _row(samples, bar, ours, unit)) is not None]
    return result


def _row(samples: list[Sample], bar: Bar, ours: float, unit: str) -> dict[str, Any] | None:
    """None: the peer was not measured."""
    theirs, ratio, peer = None, None, None
    if bar.peers:
        found = {p: v for p in bar.peers if (v := _theirs(samples, bar.row, p)) is not None}
        if not found:
            return None
        peer = (min if bar.most else max)(found, key=lambda name: found[name])
        theirs = found[peer]
        ratio = ours / theirs
    judged = ours if ratio is None else ratio
    holds = None if bar.limit is None else judged <= bar.limit if bar.most else judged >= bar.limit
    return {
        "name": bar.row, "ours": round(ours, 3), "unit": unit, "peer": peer,
        "theirs": None if theirs is None else round(theirs, 3), "ratio": None if ratio is None else round(ratio, 3),
        "bar": bar.limit, "holds": holds,
    }  # fmt: skip


def _theirs(samples: list[Sample], row: str, peer: str) -> float | None:
    measured = _median(samples, row, peer)
    return measured if measured is not None else GIVEN.get((row.removesuffix(", from drained data"), peer))


def close(samples: list[Sample], margin: float = 0.15) -> set[str]:
    """Rows whose ratio is so near to its bar that more rounds are due."""
    found = rows(samples)
    return {
        row["name"]
        for row in found
        if row["bar"] and row["ratio"] is not None and abs(row["ratio"] / row["bar"] - 1) < margin
    }


def _values(samples: list[Sample], row: str, server: str) -> list[float]:
    return [sample.value for sample in samples if (sample.row, sample.server) == (row, server)]


def _median(samples: list[Sample], row: str, server: str) -> float | None:
    values = _values(samples, row, server)
    return statistics.median(values) if values else None


def write(folder: Path, samples: list[Sample], about: str) -> list[dict[str, Any]]:
    """Writes both files, into a folder that need not exist; returns the rows."""
    found = rows(samples)
    data = {"machine": machine(), "versions": versions(), "about": about, "rows": found}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(data, indent=2) + "\n")
    text = ["# Bench results", "", about, "", _facts(data), "", *_bars_table(found), "", *_samples_table(samples), ""]
    (folder / "results.md").write_text("\n".join(text))
    return found


def _facts(data: dict[str, Any]) -> str:
    facts = {**data["machine"], **data["versions"]}
    return "; ".join(f"{key} {value}" for key, value in facts.items()) + "."


def _bars_table(found: list[dict[str, Any]]) -> list[str]:
    lines = ["| work | ours | peer | theirs | ratio | bar | holds |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in found:
        holds = {True: "yes", False: "**no**", None: "-"}[row["holds"]]
        theirs, ratio = (row[key] if row[key] is not None else "-" for key in ("theirs", "ratio"))
        most = any(bar.most for bar in BARS if bar.row == row["name"])
        bar = "-" if row["bar"] is None else f"{'<=' if most else '>='} {row['bar']}"
        cells = [row["name"], f"{row['ours']:,} {row['unit']}", row["peer"] or "-", theirs, ratio, bar, holds]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _samples_table(samples: list[Sample]) -> list[str]:
    """Medians with their spread, and what else was seen."""
    lines = [
        "| work | server | median (min .. max) | n | p50 us | p99 us | max ms | CPU us/request | load | steal % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row, server in dict.fromkeys((sample.row, sample.server) for sample in samples):
        values = _values(samples, row, server)
        notes = [sample.note for sample in samples if (sample.row, sample.server) == (row, server)]
        cells = [
            f"{statistics.median([n[key] for n in notes]):,.1f}" if all(key in n for n in notes) else "-"
            for key in ("p50_us", "p99_us", "max_ms", "cpu_us_per_request", "load", "steal_percent")
        ]
        spread = f"{statistics.median(values):,.1f} ({min(values):,.1f} .. {max(values):,.1f})"
        lines.append(f"| {row} | {server} | {spread} | {len(values)} | {' | '.join(cells)} |")
    return lines


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _first_line(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()[0].strip()
    except (OSError, IndexError):
        return "?"
