# SPDX-License-Identifier: Apache-2.0
"""A small `make storm`, and that it tells when something is lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.storm import __main__ as command
from tests.storm.bulk import Bulk
from tests.storm.kills import Report, percentile, storm
from tests.support.engine_site import EngineSite
from tests.support.oracle import BLOCK, stamp

SMALL_SEED = 20


def test_it_loses_nothing_in_a_small_storm(folder: Path) -> None:
    report = storm(folder, seed=SMALL_SEED, kills=6, full=1)
    assert report.violations == []
    assert (report.kills, report.full) == (6, 1)
    assert report.writes > 100


def test_it_finds_a_lost_write_in_what_filled_the_log(folder: Path) -> None:
    site = EngineSite(folder).start()
    try:
        bulk = Bulk(site, 1024, seed=1)
        site.kill("store")
        bulk.fill()
        site.kill("front")
        bulk.end()
        site.start_store()
        site.start_front()
        site.wait_ready()
        bulk.check()
        block = random.Random(1).randrange(1024)
        with site.open(bulk.vdisk) as client:
            client.write(block * BLOCK, stamp(99, 1 << 40, 99, block))
        with pytest.raises(AssertionError, match=f"bulk block {block} holds write"):
            bulk.check()
    finally:
        site.stop()


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (Report(kills=1, writes=1, served_seconds=[1.0]), 0),
        (Report(), 1),
        (Report(kills=1, writes=1, served_seconds=[5.1]), 1),
        (Report(kills=1, writes=1, served_seconds=[1.0], violations=["kill 1 (sync): lost"]), 1),
    ],
)
def test_it_ends_with_an_error_after_a_violation_no_kills_or_a_slow_restart(
    report: Report, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.finish(report, seed=7, kills=1) == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"storm: {report.kills} kills (0 with a full log)")


def test_it_takes_percentiles_by_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 99.9)) == (50.0, 99.0, 100.0)
    assert (percentile([3.0], 99), percentile([], 50)) == (3.0, 0.0)
