# SPDX-License-Identifier: Apache-2.0
"""The simulator itself: it repeats a seed exactly, it sees broken rules, and a handful of seeds hold in each run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stargate.errors import StargateError
from stargate.extents import format as ef
from stargate.extents.store import ExtentStore
from stargate.front.engine import FrontEngine
from stargate.fs.memdisk import MemFile
from stargate.oplog import reader
from stargate.oplog.log import OpLog
from stargate.scrub.heal import Healer
from stargate.store.grants import CatalogGrants
from tests.sim.__main__ import main
from tests.sim.runner import run

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(20)
LONGEST = 60
"""Seeds that a broken rule may take to be seen; a bar for the simulator's sharpness."""


def test_it_holds_for_some_seeds() -> None:
    failed = [result for result in map(run, SEEDS) if result.error]
    assert failed == [], "replay with: python -m tests.sim --seed N"


@pytest.mark.parametrize("seed", [3, 4, 6, 7])
def test_it_repeats_a_seed_exactly(seed: int) -> None:
    assert run(seed) == run(seed)


def test_it_repeats_a_seed_in_another_process_with_other_hashes() -> None:
    """Sets of strings have another order there: nothing may hang on it."""
    found = set()
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "tests.sim", "--seed", "5"]
        found.add(subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout)
    assert len(found) == 1


def test_its_command_ends_with_a_line_that_says_what_was_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sim", "--first", "10", "--seeds", "2", "--jobs", "1"])
    assert main() == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("sim: 2 seeds from 10, ")
    assert last.endswith(" 0 violations")


def test_its_command_fails_when_nothing_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sim", "--seeds", "0", "--jobs", "1"])
    assert main() == 1


# -- broken rules -----------------------------------------------------------------------------------------------------


def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """D1: the log's fdatasync does nothing."""
    real = MemFile.fdatasync
    monkeypatch.setattr(MemFile, "fdatasync", lambda f: None if f._path.startswith("oplog/slot") else real(f))


def _publish_before_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """D5: the extents' fdatasync does nothing."""
    real = MemFile.fdatasync
    monkeypatch.setattr(MemFile, "fdatasync", lambda f: None if f._path.startswith("egroups") else real(f))


def _sweep_without_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an ingest counts on is taken from under it."""
    monkeypatch.setattr(ExtentStore, "cut", lambda store, epoch: 1 << 62)
    monkeypatch.setattr(ExtentStore, "is_claimed", lambda store, digest: False)


def _release_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """L5: a segment is free as soon as it is durable, drained or not."""
    real = FrontEngine.commit

    def commit(engine: FrontEngine) -> int:
        engine.log.release(engine.log.durable.position)
        return real(engine)

    monkeypatch.setattr(FrontEngine, "commit", commit)


def _failed_fsync_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """D3: an error of the log's fsync is passed over."""
    real = OpLog.sync

    def sync(oplog: OpLog) -> int:
        try:
            return real(oplog)
        except StargateError:
            oplog._frozen, oplog._durable = None, oplog._appended
            return oplog._durable.position

    monkeypatch.setattr(OpLog, "sync", sync)


def _unverified_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """D4: payloads of the log and of extents are served whatever their checksums say."""
    monkeypatch.setattr(reader, "blocks_hold", lambda *args: True)
    monkeypatch.setattr(ef, "check_blocks", lambda *args: True)


def _grant_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver publishes what it says, but not durably: the snapshot is not in its catalog."""
    monkeypatch.setattr(CatalogGrants, "publish", lambda *args: None)


def _healed_without_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a damaged place or another site gives is stored under a hash that nobody compares it with."""
    monkeypatch.setattr(ef, "check_foreign", lambda kind, digest, codec, data, size: ef.decode(codec, data, size))


def _never_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copies that another site gives are passed over."""
    monkeypatch.setattr(Healer, "_put", lambda *args: set())


SEEN_AS = ("Violation", "MissingExtent", "DamagedExtent")
RULES = [
    _no_fsync,
    _publish_before_flush,
    _sweep_without_stamps,
    _release_early,
    _failed_fsync_believed,
    _unverified_reads,
    _grant_forgotten,
    _healed_without_a_check,
    _never_healed,
]


RARE = {_failed_fsync_believed: 150}
"""First seed to try: it takes a failing fsync and a power cut soon after, which few histories have."""


@pytest.mark.parametrize("broken", RULES, ids=[rule.__name__.strip("_") for rule in RULES])
def test_it_sees_a_broken_rule(broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    first = RARE.get(broken, 0)
    errors = (run(seed).error for seed in range(first, first + LONGEST))
    assert next(filter(None, errors), "not seen").partition(": ")[2].startswith(SEEN_AS)
