# SPDX-License-Identifier: Apache-2.0
"""A store that was taken for dead comes back in the middle of a commit: its successor's catalog gets nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stargate.catalog.log import CatalogLog, read_catalog
from stargate.errors import LogFrozen, StaleToken
from stargate.fs.disk import OsDisk
from stargate.store.hub import CatalogHub


@pytest.fixture
def disk(tmp_path: Path) -> OsDisk:
    return OsDisk(tmp_path)


def _take_over(disk: OsDisk) -> CatalogHub:
    """Somebody removed the lock "because it was stale"."""
    disk.unlink("catalog/lock")
    return CatalogHub(disk)


def _sweeps(disk: OsDisk) -> list[int]:
    _, ops = read_catalog(disk, "catalog")
    return [op["sweep"] for op in ops if op["op"] == "sweep"]


def _generation(disk: OsDisk) -> bytes:
    """The newest file's bytes."""
    newest = max(name for name in disk.list("catalog") if name.startswith("gen-"))
    file = disk.open(f"catalog/{newest}", read_only=True)
    try:
        return file.pread(file.size(), 0)
    finally:
        file.close()


def test_a_frame_that_is_written_late_goes_into_the_file_of_the_one_before(disk: OsDisk) -> None:
    old = CatalogHub(disk)
    old.commit({"op": "sweep", "sweep": 1})
    new = _take_over(disk)
    assert new.state.sweep == 1
    new.commit({"op": "sweep", "sweep": 2})
    before = _generation(disk)
    old._log.append([{"op": "sweep", "sweep": 77}])  # its owner had been looked at before it froze
    assert _generation(disk) == before
    with pytest.raises(StaleToken):
        old.commit({"op": "sweep", "sweep": 78})
    new.commit({"op": "sweep", "sweep": 3})
    assert _sweeps(disk) == [2, 3]
    old.close()
    new.close()
    again = CatalogHub(disk)
    assert again.state.sweep == 3
    again.close()


def test_a_checkpoint_that_is_finished_late_does_not_replace_the_successors(disk: OsDisk) -> None:
    old = CatalogHub(disk)
    old.commit({"op": "sweep", "sweep": 1})
    stale = old.state.to_dict()
    new = _take_over(disk)
    new.commit({"op": "sweep", "sweep": 2})
    with pytest.raises(LogFrozen):  # the file that it wants to remove is gone: it takes nothing more
        old._log.checkpoint(stale)
    assert _sweeps(disk) == [2]
    new.commit({"op": "sweep", "sweep": 3})
    new.checkpoint()
    old.close()
    new.close()
    again = CatalogHub(disk)
    assert again.state.sweep == 3
    assert len([name for name in disk.list("catalog") if name.startswith("gen-")]) == 1
    again.close()


def test_what_another_process_holds_is_not_appended_to(disk: OsDisk) -> None:
    old = CatalogHub(disk)
    disk.unlink("catalog/lock")
    log, _, _ = CatalogLog.open(disk, "catalog")
    assert log.foreign
    before = _generation(disk)
    with pytest.raises(LogFrozen, match="another process"):
        log.append([{"op": "sweep", "sweep": 9}])
    assert _generation(disk) == before
    log.close()
    old.close()
