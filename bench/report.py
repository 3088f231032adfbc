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

BARS: dict[str, dict[str, float]] = {
    "4K random write QD32, burst": {"qemu-nbd": 2.5, "nbdkit": 1.1},
    "4K random write QD32, sustained": {"qemu-nbd": 1.8, "nbdkit": 1.0},
    "4K random write QD1": {"qemu-nbd": 1.2, "nbdkit": 0.8},
    "4K write + flush each, QD1": {"qemu-nbd": 1.1, "nbdkit": 0.9},
    "4K random read QD32, recent": {"qemu-nbd": 3.0, "nbdkit": 1.3},
    "4K random read QD32, drained warm": {"qemu-nbd": 2.0, "nbdkit": 0.9},
    "1M sequential write": {"qemu-nbd": 1.2, "nbdkit": 0.8},
    "1M sequential read": {"qemu-nbd": 1.0, "nbdkit": 0.8},
}
"""Least ratio ours / theirs, per row and peer (issue 3)."""

SNAPSHOT_ROW = "snapshot of 32 disks of 1 TiB"
SNAPSHOT_BAR_MS = 5.0


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
    """One row per kind of work and peer, in the order of measurement; `holds` None where there is no bar."""
    result: list[dict[str, Any]] = []
    for name in dict.fromkeys(sample.row for sample in samples):
        ours = _median(samples, name, "stargate")
        unit = next(sample.unit for sample in samples if sample.row == name)
        if name.startswith(SNAPSHOT_ROW) and ours is not None:
            result.append(_row(name, ours, unit, None, None, None, SNAPSHOT_BAR_MS, ours <= SNAPSHOT_BAR_MS))
            continue
        for peer in ("qemu-nbd", "nbdkit"):
            theirs = _median(samples, name, peer)
            if ours is None or theirs is None:
                continue
            bar = next((bars[peer] for row, bars in BARS.items() if name == row), None)
            ratio = round(ours / theirs, 2)
            result.append(_row(name, ours, unit, peer, theirs, ratio, bar, None if bar is None else ratio >= bar))
    return result


def _row(
    name: str,
    ours: float,
    unit: str,
    peer: str | None,
    theirs: float | None,
    ratio: float | None,
    bar: float | None,
    holds: bool | None,
) -> dict[str, Any]:
    return {
        "name": name, "ours": round(ours, 2), "unit": unit, "peer": peer,
        "theirs": None if theirs is None else round(theirs, 2), "ratio": ratio, "bar": bar, "holds": holds,
    }  # fmt: skip


def _values(samples: list[Sample], row: str, server: str) -> list[float]:
    return [sample.value for sample in samples if (sample.row, sample.server) == (row, server)]


def _median(samples: list[Sample], row: str, server: str) -> float | None:
    values = _values(samples, row, server)
    return statistics.median(values) if values else None


def write(folder: Path, samples: list[Sample], about: str) -> list[dict[str, Any]]:
    """Writes both files; returns the rows."""
    found = rows(samples)
    data = {"machine": machine(), "versions": versions(), "about": about, "rows": found}
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
        bar = "-" if row["bar"] is None else f"<= {row['bar']}" if row["peer"] is None else f">= {row['bar']}"
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
