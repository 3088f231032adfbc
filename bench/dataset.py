# SPDX-License-Identifier: Apache-2.0
"""The data set of the replication rows: an ext4 image of 4 GiB and the same one some work later. Needs root.

v1: 1.55 GiB of files from /usr, 0.9 GiB of them a second time, 0.5 GiB of noise, the rest never written. v2: 2 % of the
64-KiB blocks that hold file data written anew at random places, half noise and half words, and 64 MiB of new files.
The same bytes for one /usr.
"""

from __future__ import annotations

import array
import fcntl
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.servers import BenchError
from stargate.units import GiB, MiB

SIZE_BYTES = 4 * GiB
UNIQUE_BYTES, TWICE_BYTES, NOISE_BYTES = int(SIZE_BYTES * 0.3875), int(SIZE_BYTES * 0.225), int(SIZE_BYTES * 0.125)
CHANGED_BLOCK_BYTES = 64 * 1024
CHANGED_SHARE = 0.02
NEW_BYTES = 32 * MiB
SOURCES = ("/usr/bin", "/usr/share", "/usr/include", "/usr/lib/python3", "/usr/lib/gcc", "/usr/lib")
NEW_SOURCES = ("/usr/include", "/usr/lib/python3.11", "/etc")
UUID = "11111111-2222-3333-4444-55555555555"
FILE_BYTES_MAX = 64 * MiB
SEED = 20240607
_FIEMAP, _UNSURE, _LAST = 0xC020660B, 0x0E0A, 1


def build(folder: Path) -> tuple[Path, Path]:
    """v1.raw and v2.raw in `folder`; kept when they are there already."""
    first, second = folder / "v1.raw", folder / "v2.raw"
    if second.exists():
        return first, second
    if os.geteuid():
        raise BenchError("the replication rows mount an image that they build: run as root, or leave them out")
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 11))) for _ in range(4000)]
    _run("truncate", "-s", str(SIZE_BYTES), str(first))
    options = f"hash_seed={UUID}6,lazy_itable_init=0,nodiscard"
    _run("mkfs.ext4", "-q", "-F", "-m0", "-U", f"{UUID}5", "-E", options, str(first))
    with _Mount(first, folder / "mnt") as mount:
        used = _fill(mount, rng)
    half = folder / "v2.part"
    _run("cp", "--sparse=always", str(first), str(half))
    _rewrite(half, used, rng, words)
    with _Mount(half, folder / "mnt") as mount:
        _copy(NEW_SOURCES, mount / "added", NEW_BYTES)
        (mount / "added" / "new.bin").write_bytes(rng.randbytes(NEW_BYTES))
    for image in (first, half):
        _run("fallocate", "-d", str(image))
    half.rename(second)
    return first, second


def _fill(mount: Path, rng: random.Random) -> list[tuple[int, int]]:
    """Writes v1's files; where their bytes lie in the image: (offset, length)."""
    copied = _copy(SOURCES, mount / "a", UNIQUE_BYTES)
    (mount / "noise").mkdir()
    for number in range(NOISE_BYTES // (16 * MiB)):
        (mount / "noise" / f"n{number}.bin").write_bytes(rng.randbytes(16 * MiB))
    at, done = rng.randrange(len(copied) // 3), 0
    while done < TWICE_BYTES:
        path, size = copied[at % len(copied)]
        target = mount / f"twice{at // len(copied)}" / str(path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        done += -(-size // 4096) * 4096
        at += 1
    _run("sync", "-f", str(mount))
    return [extent for path in sorted(mount.rglob("*")) if path.is_file() for extent in _extents(path)]


def _copy(sources: tuple[str, ...], target: Path, budget_bytes: int) -> list[tuple[Path, int]]:
    """Regular files in the order of their names, as many as fit."""
    copied: list[tuple[Path, int]] = []
    done = 0
    for path, size in _files(sources):
        if done + size > budget_bytes:
            continue
        to = target / str(path).lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
        done += -(-size // 4096) * 4096
        copied.append((path, size))
        if done > budget_bytes - MiB:
            break
    return copied


def _files(sources: tuple[str, ...]) -> Iterator[tuple[Path, int]]:
    seen: set[tuple[int, int]] = set()
    for source in sources:
        for folder, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_symlink() or not path.is_file():
                    continue
                stat = path.stat()
                if not 0 < stat.st_size <= FILE_BYTES_MAX or (stat.st_dev, stat.st_ino) in seen:
                    continue
                seen.add((stat.st_dev, stat.st_ino))
                yield path, stat.st_size


def _extents(path: Path) -> list[tuple[int, int]]:
    """(physical offset, length) of a file's data (FS_IOC_FIEMAP)."""
    found: list[tuple[int, int]] = []
    start = 0
    with path.open("rb") as file:
        while True:
            question = struct.pack("=QQLLLL", start, (1 << 64) - 1 - start, 1, 0, 128, 0) + bytes(56 * 128)
            buffer = array.array("B", question)
            fcntl.ioctl(file, _FIEMAP, buffer)
            flags = _LAST
            for number in range(struct.unpack_from("=L", buffer, 20)[0]):
                logical, physical, length, _, _, flags = struct.unpack_from("=QQQQQL", buffer, 32 + 56 * number)
                if not flags & _UNSURE:
                    found.append((physical, length))
                start = logical + length
            if flags & _LAST:
                return found


def _rewrite(image: Path, used: list[tuple[int, int]], rng: random.Random, words: list[bytes]) -> None:
    pages = bytearray(SIZE_BYTES // 4096)
    for offset, length in used:
        pages[offset // 4096 : (offset + length) // 4096] = b"\1" * ((offset + length) // 4096 - offset // 4096)
    per = CHANGED_BLOCK_BYTES // 4096
    whole = [b for b in range(SIZE_BYTES // CHANGED_BLOCK_BYTES) if all(pages[b * per : (b + 1) * per])]
    count = int(SIZE_BYTES // CHANGED_BLOCK_BYTES * CHANGED_SHARE)
    with image.open("r+b") as file:
        for number, block in enumerate(sorted(rng.sample(whole, count))):
            text = b" ".join(rng.choices(words, k=CHANGED_BLOCK_BYTES // 3))[:CHANGED_BLOCK_BYTES]
            file.seek(block * CHANGED_BLOCK_BYTES)
            file.write(rng.randbytes(CHANGED_BLOCK_BYTES) if number % 2 else text)


class _Mount:
    def __init__(self, image: Path, folder: Path) -> None:
        self._image, self._folder = image, folder

    def __enter__(self) -> Path:
        self._folder.mkdir(exist_ok=True)
        _run("mount", "-o", "loop,noatime", str(self._image), str(self._folder))
        return self._folder

    def __exit__(self, *_: object) -> None:
        _run("umount", str(self._folder))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
