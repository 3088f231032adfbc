# SPDX-License-Identifier: Apache-2.0
"""The catalog's file: durable frames, checkpoints, power cuts and rot."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from crc32c import crc32c

from stargate.catalog.format import FILE, FRAME, KNOWN, pack_known
from stargate.catalog.log import CatalogLog, read_catalog
from stargate.errors import DamagedData, InvalidArgument, LogFrozen, NotFound, OperatorError, StargateError, Unavailable
from stargate.fs.disk import OsDisk
from stargate.fs.memdisk import MemDisk

Ops = list[dict[str, Any]]


def _op(number: int) -> dict[str, Any]:
    return {"op": "create", "name": f"disk – {number}", "n": number}


def _numbers(state: dict[str, Any] | None, ops: Ops) -> list[int]:
    return [*(state or {"all": []})["all"], *(op["n"] for op in ops)]


def _open(disk: MemDisk | OsDisk, known_seq: int = 0) -> tuple[CatalogLog, list[int]]:
    log, state, ops = CatalogLog.open(disk, "catalog", known_seq=known_seq)
    return log, _numbers(state, ops)


def _filled(frames: int = 5) -> tuple[MemDisk, CatalogLog]:
    disk = MemDisk()
    log, _ = _open(disk)
    for n in range(frames):
        log.append([_op(n)])
    log.close()
    return disk, log


def test_it_gives_back_the_checkpoint_and_the_ops_since(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    log, _ = _open(disk)
    log.append([_op(0), _op(1)])
    log.checkpoint({"all": [0, 1]})
    log.append([_op(2)])
    log.close()
    log, state, ops = CatalogLog.open(disk, "catalog")
    assert (state, ops, log.seq) == ({"all": [0, 1]}, [_op(2)], 2)
    assert sorted(name for name in disk.list("catalog")) == ["gen-00000002", "known", "lock"]
    log.close()


def test_it_is_readable_while_the_writer_appends() -> None:
    disk = MemDisk()
    with pytest.raises(NotFound):
        read_catalog(disk, "catalog")
    log, _ = _open(disk)
    log.append([_op(0)])
    log.checkpoint({"all": [0]})
    log.append([_op(1)])
    assert _numbers(*read_catalog(disk, "catalog")) == [0, 1]


def test_it_has_one_writer() -> None:
    disk = MemDisk()
    _open(disk)
    with pytest.raises(Unavailable):
        _open(disk)


@pytest.mark.parametrize("seed", range(100))
def test_it_keeps_every_frame_it_returned_from_through_crashes(seed: int) -> None:
    rng = Random(seed)
    disk = MemDisk()
    kept: list[int] = []
    for _ in range(4):
        log, found = _open(disk)
        assert found == kept or found == [*kept, len(kept)]
        kept = found
        disk.fail_at = rng.randint(1, 60)
        with suppress(OSError, StargateError):
            for _ in range(20):
                if rng.randrange(4) == 0:
                    log.checkpoint({"all": list(kept)})
                else:
                    log.append([_op(len(kept))])
                    kept.append(len(kept))
        disk.fail_at = 0
        disk = disk.crash(rng)


def test_it_can_be_opened_whichever_call_of_its_making_failed() -> None:
    whole = MemDisk()
    _open(whole)
    for at in range(1, len(whole.trace) + 1):
        disk = MemDisk()
        disk.fail_at = at
        with pytest.raises((OSError, StargateError)):
            _open(disk)
        disk.fail_at = 0
        log, found = _open(disk.crash(Random(at)))
        assert (found, log.append([_op(1)])) == ([], 1)


def test_it_is_poisoned_by_a_failed_fdatasync() -> None:
    disk = MemDisk()
    log, _ = _open(disk)
    disk.fail_fsync = errno.EIO
    with pytest.raises(LogFrozen):
        log.append([_op(0)])
    disk.fail_fsync = 0
    with pytest.raises(LogFrozen):
        log.append([_op(0)])
    with pytest.raises(LogFrozen):
        log.checkpoint({})


def test_it_is_poisoned_by_a_short_write_and_cuts_what_it_left() -> None:
    disk = MemDisk()
    log, _ = _open(disk)
    log.append([_op(0)])
    disk.fail_at, disk.short = 1, True
    with pytest.raises(LogFrozen):
        log.append([_op(1)])
    log.close()
    assert _open(disk)[1] == [0]


def test_it_makes_what_it_read_truly_durable_after_a_failed_fdatasync() -> None:
    disk = MemDisk()
    log, _ = _open(disk)
    disk.fail_fsync = errno.EIO
    with pytest.raises(LogFrozen):
        log.append([_op(0)])
    log.close()
    disk.fail_fsync = 0
    _, found = _open(disk)
    assert found == [0]
    assert _open(disk.crash(Random(0)))[1] == found


def test_it_cuts_a_torn_last_frame() -> None:
    disk, log = _filled()
    file = disk.open("catalog/gen-00000001")
    file.truncate(log.size_bytes - 3)
    disk.open("catalog/known").pwritev([pack_known(4)], 0)  # the crash came before the sync, hence before the note
    assert _open(disk)[1] == [0, 1, 2, 3]
    assert file.size() < log.size_bytes - 3


def test_it_refuses_every_flipped_bit_before_the_last_frame_and_changes_nothing() -> None:
    disk, log = _filled()
    last = (log.size_bytes - FILE.size) * 4 // 5 + FILE.size
    for at in range(last):
        disk.flip("catalog/gen-00000001", at, 1 << at % 8)
        before = disk.snapshot()
        with pytest.raises((DamagedData, OperatorError)):
            _open(disk)
        assert disk.snapshot() == before
        disk.flip("catalog/gen-00000001", at, 1 << at % 8)
    assert _open(disk)[1] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("flip", [True, False])
def test_it_refuses_to_lose_its_last_frame(flip: bool) -> None:
    disk, log = _filled()
    if flip:
        disk.flip("catalog/gen-00000001", log.size_bytes - 3)
    else:
        file = disk.open("catalog/gen-00000001")
        file.truncate(FILE.size + (log.size_bytes - FILE.size) * 4 // 5)
        file.fdatasync()
    with pytest.raises(DamagedData, match="known to be durable"):
        _open(disk)
    with pytest.raises(DamagedData, match="known to be durable"):
        read_catalog(disk, "catalog")
    for at in range(KNOWN.size):
        disk.flip("catalog/known", at)
        assert _open(disk.crash(Random(1)))[1] == [0, 1, 2, 3], "a damaged note says nothing"
        disk.flip("catalog/known", at)


def test_it_refuses_to_end_below_a_frame_it_was_told() -> None:
    disk, log = _filled()
    disk.open("catalog/gen-00000001").truncate(log.size_bytes - 1)
    with pytest.raises(DamagedData):
        _open(disk, known_seq=5)
    with pytest.raises(DamagedData):
        _open(MemDisk(), known_seq=1)


def test_it_refuses_a_damaged_checkpoint() -> None:
    disk, _ = _filled()
    log, found = _open(disk)
    log.checkpoint({"all": found})
    log.close()
    disk.flip("catalog/gen-00000002", FILE.size + FRAME.size + 3)
    with pytest.raises(DamagedData):
        _open(disk)


def test_it_refuses_a_newer_format() -> None:
    disk, _ = _filled()
    file = disk.open("catalog/gen-00000001")
    raw = bytearray(file.pread(FILE.size, 0))
    raw[8] = 2
    raw[-4:] = crc32c(bytes(raw[:-4])).to_bytes(4, "little")
    file.pwritev([raw], 0)
    with pytest.raises(OperatorError, match="format 2"):
        _open(disk)


def test_it_refuses_a_frame_above_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stargate.catalog.format.FRAME_BYTES_MAX", 100)
    log, _ = _open(MemDisk())
    with pytest.raises(InvalidArgument):
        log.append([{"text": "x" * 100}])
    log.append([_op(1)])
