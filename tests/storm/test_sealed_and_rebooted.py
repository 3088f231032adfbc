# SPDX-License-Identifier: Apache-2.0
"""Real processes: epochs that are sealed for their many chunks, and a machine that died between two starts."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stargate.catalog.log import read_catalog
from stargate.catalog.state import State
from stargate.fs.disk import OsDisk
from stargate.nbd.link import NbdError
from stargate.units import BLOCK_BYTES, CHUNK_BYTES, MiB
from tests.support.engine_site import EngineSite, wait_for

SEAL_CHUNKS = 16
"""Instead of 16 GiB of them."""

RUN = (
    "import pathlib, runpy, sys; from stargate.fs import boot; from stargate.store import reclaim; "
    "boot._BOOT_ID, reclaim.REFS_MAX_BYTES = pathlib.Path(sys.argv.pop(1)), int(sys.argv.pop(1)); "
    "runpy.run_module('stargate', run_name='__main__')"
)


class Altered(EngineSite):
    """Its store seals early, and its machine's boot id is a file of the test."""

    def _spawn(self, part: str, args: list[str]) -> subprocess.Popen[bytes]:
        what = [str(self.folder / "boot_id"), str(SEAL_CHUNKS * CHUNK_BYTES), part, "--data", str(self.folder)]
        with (self.folder / f"{part}.log").open("ab") as log:
            command = [sys.executable, "-c", RUN, *what, "--listen", self.address, *args]
            return subprocess.Popen(command, stdout=log, stderr=log)

    def boot(self) -> None:
        """The machine starts, and the site with it."""
        self.kill()
        (self.folder / "boot_id").write_text(str(uuid.uuid4()))
        self.start()

    def roots(self) -> set[str]:
        """Of all epochs that were sealed and folded, as the catalog has them."""
        checkpoint, ops = read_catalog(OsDisk(self.folder / "stargate"), "catalog")
        state = State.from_dict(checkpoint) if checkpoint is not None else State()
        for op in ops:
            state.apply(op)
        return {str(epoch.root) for epoch in state.epochs.values() if epoch.root is not None}


@pytest.fixture
def site(folder: Path) -> Iterator[Altered]:
    engine = Altered(folder)
    try:
        engine.boot()
        yield engine
    finally:
        engine.stop()


def _fill(site: Altered, disk: str, image: bytearray, rng: random.Random, chunks: int) -> None:
    with site.open(disk) as client:
        for chunk in rng.sample(range(len(image) // CHUNK_BYTES), chunks):
            data, at = rng.randbytes(CHUNK_BYTES), chunk * CHUNK_BYTES
            client.write(at, data)
            image[at : at + len(data)] = data
        client.flush()


def test_many_whole_chunks_have_their_epoch_sealed_and_folded_without_any_snapshot(site: Altered) -> None:
    """Several times, between restarts; each time all bytes read back."""
    rng = random.Random(seed := random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed}")
    image = bytearray(16 * MiB)
    disk = site.disk(len(image))
    _fill(site, disk, image, rng, SEAL_CHUNKS // 4)
    wait_for(site.drained, "the first drain")
    assert site.roots() == set(), "too few to be sealed"
    for _ in range(3):
        known = site.roots()
        _fill(site, disk, image, rng, 2 * SEAL_CHUNKS)
        wait_for(lambda known=known: site.roots() - known, "another sealed epoch's root")  # type: ignore[misc]
        assert site.content(disk) == image
        site.restart()
        assert site.content(disk) == image


def _die_while_writing(site: Altered, disk: str) -> None:
    """Kill all under a client that has just been answered, was promised nothing by a flush, and keeps writing."""
    answered = threading.Event()

    def write() -> None:
        with suppress(NbdError, OSError), site.open(disk) as client:
            while True:
                client.write(0, b"x" * BLOCK_BYTES)
                answered.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert answered.wait(30)
    site.kill()
    writer.join(30)
    assert not writer.is_alive()


def test_on_the_same_boot_nothing_is_asked_and_on_another_the_disk_waits_to_be_re_opened(site: Altered) -> None:
    disk, quiet = site.disk(MiB), site.disk(MiB)
    with site.open(disk) as client:
        client.write(BLOCK_BYTES, b"y" * BLOCK_BYTES)
        client.flush()
    _die_while_writing(site, disk)
    site.start()
    assert not site.engine.vdisk(disk)["reopen"]
    assert site.content(disk)[:BLOCK_BYTES] == b"x" * BLOCK_BYTES, "the kernel lived on: nothing is lost"
    _die_while_writing(site, disk)
    for _ in range(2):  # it waits for as long as it takes
        site.boot()
        assert site.engine.vdisk(disk)["reopen"]
        assert not site.engine.vdisk(quiet)["reopen"]
        with pytest.raises((NbdError, OSError)):
            site.open(disk)
        assert site.content(quiet) == bytes(MiB)
    assert site.engine.reopen([disk])["reopened"] == [disk]
    assert site.content(disk)[BLOCK_BYTES : 2 * BLOCK_BYTES] == b"y" * BLOCK_BYTES, "what was flushed is there"
    site.boot()
    assert not site.engine.vdisk(disk)["reopen"], "nothing was written since"
