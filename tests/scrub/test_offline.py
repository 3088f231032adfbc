# SPDX-License-Identifier: Apache-2.0
"""`python -m stargate check` and `repair` on the folders of a stopped site."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from stargate.extents.format import Kind
from stargate.extents.index import Change, LmdbIndex
from stargate.fs.disk import OsDisk
from stargate.peer.identity import create_identity
from stargate.scrub import command
from stargate.scrub.offline import Problem, check
from tests.engine.harness import Site
from tests.engine.test_halves import drained, scatter, started
from tests.scrub.test_healing import noise, places, rot, shared


def found(site: Site) -> list[Problem]:
    before = site.disk.snapshot()
    problems = list(check(site.disk, site.index))
    assert site.disk.snapshot() == before, "a check changes nothing"
    return problems


def mend(site: Site) -> list[str]:
    return [problem.mend() for problem in check(site.disk, site.index) if problem.mend is not None]


def test_a_sound_site_has_no_findings() -> None:
    world, _, _ = shared()
    world.a.stop()
    assert found(world.a.site) == []


def test_it_names_a_damaged_extent_and_leaves_it_to_the_running_store() -> None:
    world, disk, _ = shared()
    digest, at = places(world.a.store.extents, Kind.CHUNK)[3]
    rot(world.a, at)
    world.a.stop()
    (problem,) = found(world.a.site)
    assert problem.part == "extents"
    assert digest.hex() in problem.text
    assert problem.mend is None
    world.a.start()
    world.a.scrub()
    assert world.a.site.content(disk) == noise(7)


def test_it_mends_a_table_and_keeps_what_it_writes_over() -> None:
    site, name = started()
    scatter(site, name, b"one.")
    drained(site)
    assert site.store is not None
    ref = next(e.batches[0] for e in site.store.hub.state.epochs.values() if e.batches)
    site.kill_front()
    site.kill_store()
    path = f"hot/r-{ref.region:08d}"
    sound = site.disk.snapshot()[path]
    site.disk.flip(path, ref.offset + 90)
    rotten = site.disk.snapshot()[path]
    assert [problem.part for problem in found(site)] == ["hot tier"]
    (done,) = mend(site)
    assert site.disk.snapshot()[path] == sound
    kept = site.disk.snapshot()[done.rpartition(" ")[2].rstrip(".")]
    assert kept == rotten[ref.offset : ref.offset + len(kept)]
    assert found(site) == []


def test_it_mends_a_superblock_and_the_head_of_an_extent_group() -> None:
    world, _, _ = shared()
    world.a.stop()
    site = world.a.site
    site.disk.flip("oplog/superblock", 20)
    site.disk.flip("egroups/g-00000001", 20)
    assert sorted(problem.part for problem in found(site)) == ["extents", "log"]
    assert len(mend(site)) == 2
    assert found(site) == []
    assert len(site.disk.list("aside")) == 2


def test_it_says_what_a_damaged_log_and_a_damaged_catalog_mean() -> None:
    site, name = started()
    scatter(site, name, b"one.")
    site.kill_front()
    site.kill_store()
    site.disk.flip("oplog/slot-0000", 4096 + 30)
    (problem,) = found(site)
    assert problem.part == "log"
    site.disk.flip("oplog/slot-0000", 4096 + 30)
    path = next(p for p in site.disk.snapshot() if "gen-" in p)
    site.disk.flip(path, 100)
    (problem,) = found(site)
    assert (problem.part, problem.mend) == ("catalog", None)


def test_it_finds_wrong_entries_of_the_index() -> None:
    world, _, _ = shared()
    (one, at), (_, other) = places(world.a.store.extents, Kind.CHUNK)[:2]
    world.a.stop()
    world.a.site.index.commit(Change(puts=[(one, other)]))
    assert [problem.part for problem in found(world.a.site)] == ["index"]
    world.a.site.index.commit(Change(puts=[(one, at)]))
    assert found(world.a.site) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stopped site on a real disk."""
    world, _, _ = shared()
    world.a.stop()
    disk = OsDisk(tmp_path / "stargate")
    for path, data in world.a.site.disk.snapshot().items():
        disk.mkdir(path.rpartition("/")[0])
        file = disk.open(path, create=True)
        file.pwritev([data], 0)
        file.close()
    index = LmdbIndex(tmp_path / "stargate" / "index")
    memory = world.a.site.index
    meta = [(name, value) for name in ("store_id", "epoch", "returned_bytes") if (value := memory.meta(name))]
    index.commit(Change(puts=list(memory.items()), meta=meta))
    index.close()
    create_identity(tmp_path / "identity", "a")
    return tmp_path


def test_the_command_says_in_words_that_all_is_well(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(folder, repair=False) == 0
    assert "All is well" in capsys.readouterr().out
    assert command.run(folder / "nowhere", repair=False) == 2


def test_the_command_leaves_a_running_engine_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = OsDisk(folder / "stargate").lock("egroups.lock")
    assert command.run(folder, repair=True) == 2
    assert "engine runs" in capsys.readouterr().out
    lock.close()


@pytest.mark.parametrize("damage", ["flip", "zero", "cut", "gone"])
def test_the_command_moves_a_damaged_index_aside(folder: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "stargate" / "index" / "data.mdb"
    raw = bytearray(path.read_bytes())
    if damage == "flip":
        rng = Random(1)
        for _ in range(400):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif damage == "zero":
        raw[: len(raw) * 3 // 4] = bytes(len(raw) * 3 // 4)
    elif damage == "cut":
        raw = raw[: len(raw) // 4]
    path.write_bytes(raw)
    if damage == "gone":
        path.unlink()
    assert command.run(folder, repair=False) == 1
    assert "index" in capsys.readouterr().out
    assert command.run(folder, repair=True) == 1
    assert (folder / "stargate" / "aside" / "index.1").is_dir()


@pytest.mark.parametrize("name", ["site.crt", "site.key"])
def test_the_command_finds_a_damaged_identity(folder: Path, name: str) -> None:
    path = folder / "identity" / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert command.run(folder, repair=False) == 1
    path.unlink()
    assert command.run(folder, repair=False) == 1
    shutil.rmtree(folder / "identity")
    assert command.run(folder, repair=False) == 0


def test_the_command_takes_a_site_that_was_never_paired_for_a_whole_one(folder: Path) -> None:
    """What disks are served with lies in a folder below."""
    for name in ("site.crt", "site.key"):
        (folder / "identity" / name).unlink()
    (folder / "identity" / "nbd").mkdir()
    assert command.run(folder, repair=False) == 0
