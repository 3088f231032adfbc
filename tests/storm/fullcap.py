# SPDX-License-Identifier: Apache-2.0
"""Kills with a full log of the default cap (4 GiB) in writes of 4 KiB: the longest restart there is."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from stargate.units import GiB
from tests.storm.bulk import Bulk
from tests.storm.kills import Report, first_block, revive
from tests.support.engine_site import EngineSite
from tests.support.oracle import BLOCK

CAP_MIB = 4096
SEGMENT_MIB = 64


def cpu_seconds(site: EngineSite) -> float:
    """Of the front so far: what a restart costs on a machine that has nothing else to do."""
    assert site.front is not None
    fields = Path(f"/proc/{site.front.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def full_cap_kills(folder: Path, *, seed: int, kills: int, full: int = 0, say: Callable[[str], None] = print) -> Report:
    """Fill once while the store is away, then kill again and again: a restart does not empty the log.

    `full` is not used: all kills are with a full log.
    """
    report = Report()
    site = EngineSite(folder, log_cap_mib=CAP_MIB, segment_mib=SEGMENT_MIB)
    rng = random.Random(f"cap-{seed}")
    try:
        site.start()
        bulk = Bulk(site, 4 * GiB // BLOCK, seed, longest=1)
        site.kill("store")
        began = time.monotonic()
        used = bulk.fill(600)
        say(f"  {used >> 20} MiB of log in {bulk.written} writes, filled in {time.monotonic() - began:.0f} s")
        for number in range(kills):
            site.kill()
            bulk.end()
            report.kills += 1
            report.full += 1
            report.during["full, default cap"] += 1
            report.victims["front, log full"] += 1
            report.served_seconds.append(revive(site, first_block(bulk.vdisk)))
            say(
                f"  served again after {report.served_seconds[-1]:.2f} s; the front used {cpu_seconds(site):.1f} s of "
                f"one core, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
            )
            if number + 1 < kills:
                site.kill("store")
                time.sleep(rng.random() * 0.2)
        report.writes = bulk.written
        bulk.check()
    except AssertionError as exc:
        report.violations.append(f"full log of {CAP_MIB} MiB: {exc}")
    finally:
        site.stop()
    return report
