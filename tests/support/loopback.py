# SPDX-License-Identifier: Apache-2.0
"""Addresses of this test process alone: its sites use their usual ports, whatever else runs on the machine."""

from __future__ import annotations

import os


def loopback(n: int) -> str:
    """All of 127.0.0.0/8 is this machine. `n`: 1 to 254, which of the addresses of this process."""
    run = os.getpid() % (96 * 254)
    return f"127.{32 + run // 254}.{1 + run % 254}.{n}"
