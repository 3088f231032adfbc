# SPDX-License-Identifier: Apache-2.0
"""Damage of one file: a flipped bit, a zeroed range, two ranges that changed places, a cut."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.corrupt.live import Live
from tests.engine.harness import Site

KINDS = ("flip", "zero", "swap", "cut")
FOLDERS = ("oplog", "hot", "egroups", "catalog", "scrub")


@dataclass
class Damage:
    """What was done, and which live bytes it changed."""

    kind: str
    path: str
    what: str
    hit: list[Live]


def damage_file(site: Site, live: list[Live], rng: Random) -> Damage:
    """Choose a file, half of the time a place that somebody needs, and spoil it."""
    files = site.disk.snapshot()
    folder = rng.choice(FOLDERS)
    paths = [path for path, data in files.items() if data and path.startswith(folder)]
    paths = paths or [path for path, data in files.items() if data]
    path = rng.choice(sorted(paths))
    before = files[path]
    needed = [part for part in live if part.path == path]
    at = rng.randrange(len(before))
    if needed and rng.random() < 0.7:
        part = rng.choice(needed)
        at = rng.randrange(part.start, max(part.start + 1, min(part.end, len(before))))
    kind = rng.choice(KINDS)
    after, what = spoil(bytearray(before), kind, min(at, len(before) - 1), rng)
    _store(site, path, bytes(after), len(before))
    hit = [part for part in needed if before[part.start : part.end] != after[part.start : part.end]]
    return Damage(kind, path, what, hit)


def spoil(data: bytearray, kind: str, at: int, rng: Random) -> tuple[bytearray, str]:
    length = rng.choice((1, 16, 512, 4096, 4096, 20000))
    if kind == "flip":
        bit = rng.randrange(8)
        data[at] ^= 1 << bit
        return data, f"bit {bit} of byte {at}"
    if kind == "cut":
        return data[:at], f"from byte {at} on"
    end = min(at + length, len(data))
    if kind == "zero":
        data[at:end] = bytes(end - at)
        return data, f"bytes {at} to {end}"
    other = rng.randrange(len(data) - (end - at) + 1)
    if rng.random() < 0.5:
        other = other // 4096 * 4096
    low, high = sorted((at, other))
    size = min(end - at, high - low, len(data) - high)
    data[low : low + size], data[high : high + size] = data[high : high + size], data[low : low + size]
    return data, f"{size} bytes at {low} and {high}"


def _store(site: Site, path: str, data: bytes, old_size: int) -> None:
    file = site.disk.open(path)
    if len(data) < old_size:
        file.truncate(len(data))
    file.pwritev([data], 0)
    file.fdatasync()
    file.close()


def damage_index(site: Site, needed: set[bytes], rng: Random) -> tuple[str, list[bytes]]:
    """Spoil entries of the index: gone, wrong, or two that changed places. (what, names of needed ones)."""
    entries = site.index._extents
    names = rng.sample(sorted(entries), 2)
    kind = rng.choice(("gone", "wrong", "swap"))
    if kind == "gone":
        names = names[:1]
        del entries[names[0]]
    elif kind == "swap":
        entries[names[0]], entries[names[1]] = entries[names[1]], entries[names[0]]
    else:
        names = names[:1]
        field = rng.choice(("egroup", "offset", "stored_bytes", "size_bytes", "kind", "codec", "level"))
        old = entries[names[0]]
        entries[names[0]] = old._replace(**{field: getattr(old, field) ^ (1 << rng.randrange(3))})
    return kind, [name for name in names if name in needed]
