# SPDX-License-Identifier: Apache-2.0
"""Sizes and rates with their unit, binary, three figures; and back from what an operator typed."""

from __future__ import annotations

import re

from stargate.units import GiB, KiB, MiB, TiB

_UNITS = ((TiB, "TiB"), (GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB"))
_TYPED = re.compile(r"^\s*(\d{1,15}(?:\.\d{1,6})?)\s*(?:([KMGT])(?:i?B)?|B|bytes?)?\s*$", re.IGNORECASE)
_FACTORS = {"": 1, "K": KiB, "M": MiB, "G": GiB, "T": TiB}


def size(count: int | float | None) -> str:
    """`1536` -> `1.5 KiB`; None (unknown) -> `-`."""
    if count is None:
        return "-"
    for factor, unit in _UNITS:
        if abs(count) >= factor:
            value = count / factor
            return f"{value:.0f} {unit}" if value >= 100 or value == int(value) else f"{value:.3g} {unit}"
    return f"{int(count)} B"


def rate(bytes_per_second: int | float | None) -> str:
    """A bandwidth in KBps, MBps ... as the documented tables write it (binary); None -> `-`."""
    if bytes_per_second is None:
        return "-"
    if bytes_per_second < KiB:
        return "0 KBps" if not bytes_per_second else "< 1 KBps"
    return size(bytes_per_second).replace("iB", "B") + "ps"


def parse_size(text: str) -> int | None:
    """`10 GiB`, `10G`, `512 MB` -> bytes (always binary); None when it is no size."""
    match = _TYPED.match(text)
    if not match:
        return None
    return int(float(match[1]) * _FACTORS[(match[2] or "").upper()])
