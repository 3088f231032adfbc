# SPDX-License-Identifier: Apache-2.0
"""Which run of the machine this is: what the page cache held is there as long as it does not change."""

from __future__ import annotations

from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """A new one at each boot of the kernel; "" when the kernel does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return ""
