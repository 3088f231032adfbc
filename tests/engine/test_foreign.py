# SPDX-License-Identifier: Apache-2.0
"""Clients that are not ours, against the real engine: nbdinfo, nbdcopy, qemu-img, qemu-io, fio, and ext4 through
nbdfuse."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from pathlib import Path

import pytest

from stargate.units import MiB
from tests.support.engine_site import EngineSite, wait_for
from tests.support.foreign import mounted, nbdfuse, run


@pytest.fixture
def image(folder: Path) -> Path:
    path = folder / "image.raw"
    rng = random.Random(5)
    path.write_bytes(rng.randbytes(3 * MiB) + bytes(10 * MiB) + rng.randbytes(3 * MiB + 1024))
    return path


@pytest.mark.foreign("nbdinfo")
def test_nbdinfo_reads_what_we_promise(site: EngineSite) -> None:
    disk = site.disk(16 * MiB, "vm1-disk0")
    found = json.loads(run("nbdinfo", "--no-content", "--json", site.uri("vm1-disk0")))["exports"][0]
    assert found["export-size"] == 16 * MiB
    assert found["is_read_only"] is False
    assert found["can_multi_conn"] is True
    for name in ("flush", "fua", "trim", "zero"):
        run("nbdinfo", "--can", name, site.uri("vm1-disk0"))
    snapshot = site.snapshot(disk)
    shown = json.loads(run("nbdinfo", "--no-content", "--json", site.uri(f"snapshot:{snapshot}:{disk}")))
    assert shown["exports"][0]["is_read_only"]


@pytest.mark.foreign("nbdcopy", "qemu-img")
def test_copies_are_identical_both_ways(site: EngineSite, image: Path, folder: Path) -> None:
    size = image.stat().st_size
    site.disk(size, "copy")
    run("nbdcopy", "--connections=4", "--requests=64", image, site.uri("copy"))
    wait_for(site.drained, "the drain")
    run("nbdcopy", site.uri("copy"), folder / "back.raw")
    assert (folder / "back.raw").read_bytes() == image.read_bytes()
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", site.uri("copy"), image)
    site.disk(size, "converted")
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, site.uri("converted"))
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", site.uri("copy"), site.uri("converted"))


@pytest.mark.foreign("qemu-io")
def test_qemu_io_patterns(site: EngineSite) -> None:
    site.disk(64 * MiB, "patterns")
    steps = [
        "write -P 0xa5 0 1M", "write -f -P 0x5a 512 512", "write -z -u 64k 64k", "discard 128k 64k",
        "read -P 0xa5 1024 1024", "read -P 0x5a 512 512", "read -P 0 64k 128k", "flush",
    ]  # fmt: skip
    run("qemu-io", "-f", "raw", site.uri("patterns"), *[part for step in steps for part in ("-c", step)])


@pytest.mark.foreign("fio")
def test_fio_verifies_its_own_writes(site: EngineSite) -> None:
    site.disk(64 * MiB, "fio")
    out = run(
        "fio", "--name=v", "--ioengine=nbd", f"--uri={site.uri('fio')}", "--rw=randwrite", "--bs=4k", "--size=32M",
        "--iodepth=16", "--verify=crc32c", "--verify_fatal=1", "--serialize_overlap=1", "--output-format=json",
        "--verify_state_save=0",
    )  # fmt: skip
    assert json.loads(out[out.index("{") :])["jobs"][0]["error"] == 0


def write_files(folder: Path, stop: threading.Event, errors: list[Exception]) -> None:
    rng = random.Random(9)
    number = 0
    try:
        while not stop.is_set():
            path = folder / f"f{number % 40}"
            path.write_bytes(rng.randbytes(rng.randrange(1, 200_000)))
            if number % 7 == 0:
                fd = os.open(path, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
            if number % 11 == 0 and number > 40:
                (folder / f"f{rng.randrange(40)}").unlink(missing_ok=True)
            number += 1
    except OSError as exc:
        errors.append(exc)


@pytest.mark.root
@pytest.mark.foreign("nbdfuse", "mkfs.ext4", "e2fsck", "mount")
def test_ext4_snapshotted_under_load_is_clean(site: EngineSite, folder: Path) -> None:
    disk = site.disk(64 * MiB, "ext4")
    stop, errors = threading.Event(), []  # type: ignore[var-annotated]
    with nbdfuse(site.uri("ext4"), folder / "fuse") as device:
        run("mkfs.ext4", "-q", "-F", device)
        with mounted(device, folder / "mnt") as mount:
            writer = threading.Thread(target=write_files, args=(mount, stop, errors))
            writer.start()
            try:
                wait_for(lambda: len(list(mount.iterdir())) > 30 or errors, "files")
                snapshot = site.snapshot(disk)
            finally:
                stop.set()
                writer.join(60)
        run("e2fsck", "-fn", device)
    assert not errors
    site.clone(snapshot, disk)
    clone = next(d["export_name"] for d in site.engine.vdisks() if d["export_name"].startswith("clone-"))
    shutil.rmtree(folder / "fuse", ignore_errors=True)
    with nbdfuse(site.uri(clone), folder / "fuse2") as device:
        # the clone is as after a power cut: the journal is replayed by the first mount, then all must be clean
        with mounted(device, folder / "mnt2") as mount:
            assert len(list(mount.glob("f*"))) > 20
        run("e2fsck", "-fn", device)
