# SPDX-License-Identifier: Apache-2.0
"""N2: qemu-io patterns. N3: copies of other makers. N4: fio, written and verified."""

from __future__ import annotations

import json
from pathlib import Path

from stargate.units import MiB
from tests.conformance.kit import Bench, Check, demand, run

SIZE = 64 * MiB

PATTERNS = (
    "write -P 0xa5 0 1M",
    "write -f -P 0x5a 512 512",
    "write -z -u 64k 64k",
    "discard 128k 64k",
    "read -P 0xa5 1024 1024",
    "read -P 0x5a 512 512",
    "read -P 0 64k 128k",
    "read -P 0xa5 192k 832k",
    "flush",
)


def patterns(bench: Bench) -> None:
    """Also after the engine was killed: what was flushed is there."""
    name = bench.disk(SIZE)
    qemu_io = ("qemu-io", "-f", "raw", bench.uri(name))
    _verify(run(*qemu_io, *(part for line in PATTERNS for part in ("-c", line))))
    bench.site.restart()
    _verify(run(*qemu_io, *(part for line in PATTERNS if line.startswith("read") for part in ("-c", line))))


def _verify(output: str) -> None:
    demand("Pattern verification failed" not in output, output)


def image(bench: Bench, salt: str) -> Path:
    """A raw image with data, holes and zeroes that are written."""
    rng = bench.rng(salt)
    path = bench.file(f"{salt}.raw")
    with path.open("wb") as file:
        for _ in range(SIZE // MiB):
            kind = rng.choice(("data", "hole", "zeroes"))
            if kind == "hole":
                file.seek(MiB, 1)
            else:
                file.write(rng.randbytes(MiB) if kind == "data" else bytes(MiB))
        file.truncate(SIZE)
    return path


def nbdcopy(bench: Bench) -> None:
    source, first, second, back = image(bench, "nbdcopy"), bench.disk(SIZE), bench.disk(SIZE), bench.file("back.raw")
    run("nbdcopy", "--flush", source, bench.uri(first))
    run("nbdcopy", bench.uri(first), bench.uri(second))
    run("nbdcopy", "--connections=4", "--requests=64", bench.uri(second), back)
    run("cmp", source, back)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", bench.uri(second), source)


def qemu_img(bench: Bench) -> None:
    source, name, back = image(bench, "qemu-img"), bench.disk(SIZE), bench.file("back.raw")
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, bench.uri(name))
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", bench.uri(name), source)
    bench.site.restart()
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", bench.uri(name), back)
    run("cmp", source, back)


def fio(bench: Bench, *extra: str) -> None:
    for turn in range(bench.count):
        name, report = bench.disk(SIZE), bench.file("fio.json")
        run(
            "fio", "--name=v", "--ioengine=nbd", f"--uri={bench.uri(name)}", "--bs=4k", "--size=64M", "--iodepth=16",
            "--verify=crc32c", "--verify_fatal=1", "--serialize_overlap=1", "--verify_state_save=0",
            f"--randseed={bench.seed + turn}", "--output-format=json", f"--output={report}", *extra,
        )  # fmt: skip
        text = report.read_text()
        (job,) = json.loads(text[text.index("{") :])["jobs"]
        demand(job["error"] == 0, f"fio's error {job['error']}")  # its figures look fine beside one
        demand(job["write"]["total_ios"] > 1000, f"only {job['write']['total_ios']} writes")
        demand(job["read"]["total_ios"] > 1000, f"only {job['read']['total_ios']} blocks verified")


CHECKS = [
    Check("N2", "qemu-io patterns, also after kill -9", patterns, ("qemu-io",)),
    Check("N3", "nbdcopy file, export, export, file", nbdcopy, ("nbdcopy", "qemu-img", "cmp")),
    Check("N3", "qemu-img convert and compare", qemu_img, ("qemu-img", "cmp")),
    Check("N4", "fio randwrite verified", lambda b: fio(b, "--rw=randwrite"), ("fio",)),
    Check(
        "N4",
        "fio randwrite, mixed sizes",
        lambda b: fio(b, "--rw=randwrite", "--bssplit=512/20:4k/60:64k/20", "--fsync=64"),
        ("fio",),
    ),
    Check("N4", "fio randrw verified", lambda b: fio(b, "--rw=randrw"), ("fio",)),
    Check(
        "N4",
        "fio verified behind the writes",
        lambda b: fio(b, "--rw=randwrite", "--verify_backlog=256"),
        ("fio",),
    ),
]
