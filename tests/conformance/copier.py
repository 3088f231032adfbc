# SPDX-License-Identifier: Apache-2.0
"""N9: our copier (`stargate.nbd.client`, as images are imported and exported with it) against servers that fail.

`python -m tests.conformance.copier FROM TO` is what nbdkit runs: each of the two is a file or an nbd+unix URI.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from stargate.errors import StargateError
from stargate.nbd.client import NbdClient
from tests.conformance.kit import Bench, Check, Failed, demand, run
from tests.conformance.semantics import SIZE, image

_COPY = f"{shlex.quote(sys.executable)} -m tests.conformance.copier"


def _client(uri: str) -> NbdClient:
    parts = urlsplit(uri)
    return NbdClient.unix(parse_qs(parts.query)["socket"][0], unquote(parts.path.removeprefix("/")))


def copy(source: str, target: str) -> None:
    """By way of a file when both are exports. Raises NbdError, OSError."""
    if source.startswith("nbd") and target.startswith("nbd"):
        with tempfile.TemporaryDirectory() as folder:
            copy(source, f"{folder}/image")
            copy(f"{folder}/image", target)
    elif source.startswith("nbd"):
        with _client(source) as client, Path(target).open("wb") as file:
            client.copy_out(file, sparse=True)
    else:
        with _client(target) as client, Path(source).open("rb") as file:
            client.copy_in(file)


def same_bytes(bench: Bench) -> None:
    """nbdkit's checkwrite filter refuses each write that differs from what the disk holds already."""
    source = image(bench, "checkwrite")
    run("nbdkit", "-U", "-", "--filter=checkwrite", "file", source, "--run", f'{_COPY} "$uri" "$uri"')


def _into_nbdkit(bench: Bench, filters: list[str], *arguments: str) -> tuple[Path, Path, bool]:
    """(image, what arrived, whether the copier says that it succeeded)."""
    source, target = image(bench, "faults"), bench.file("target.raw")
    with target.open("wb") as file:
        file.truncate(SIZE)
    command = [f"--filter={name}" for name in filters]
    words = ("nbdkit", "-U", "-", *command, "file", target, *arguments, "--run", f'{_COPY} {source} "$uri"')
    try:
        run(*words)
    except Failed as failure:
        demand("did not end" not in str(failure), str(failure))
        return source, target, False
    return source, target, True


def lost_writes_are_told(bench: Bench) -> None:
    """CVE-2022-0485 was a copier that was silent about them."""
    for rate in ("1%", "20%"):
        for turn in range(3 * bench.count):
            source, target, fine = _into_nbdkit(bench, ["error"], f"error-pwrite-rate={rate}", "error-zero-rate=5%")
            demand(not fine or source.read_bytes() == target.read_bytes(), f"silent loss at {rate}, turn {turn}")
    _, _, fine = _into_nbdkit(bench, ["error"], "error-pwrite-rate=100%")
    demand(not fine, "every write failed and the copier says that all is well")


def lost_reads_are_told(bench: Bench) -> None:
    for turn in range(3 * bench.count):
        source, target = image(bench, "reads"), bench.file("read.raw")
        words = ("nbdkit", "-U", "-", "--filter=error", "file", source, "error-pread-rate=5%", "--run")
        try:
            run(*words, f'{_COPY} "$uri" {target}')
        except Failed as failure:
            demand("did not end" not in str(failure), str(failure))
            continue
        demand(source.read_bytes() == target.read_bytes(), f"silent loss, turn {turn}")


def slow_and_picky_servers(bench: Bench) -> None:
    for filters, arguments in (
        (["delay"], ["wdelay=20ms"]),
        (["rate"], ["rate=400M"]),
        (["blocksize-policy"], ["blocksize-preferred=4096", "blocksize-maximum=32M", "blocksize-error-policy=error"]),
        (["nozero"], []),
        (["noextents"], []),
    ):
        source, target, fine = _into_nbdkit(bench, filters, *arguments)
        demand(fine and source.read_bytes() == target.read_bytes(), f"not copied through {filters}")


CHECKS = [
    Check("N9", "our copier writes what it read", same_bytes, ("nbdkit",)),
    Check("N9", "our copier tells of each lost write", lost_writes_are_told, ("nbdkit",)),
    Check("N9", "our copier tells of each lost read", lost_reads_are_told, ("nbdkit",)),
    Check("N9", "our copier and slow or picky servers", slow_and_picky_servers, ("nbdkit",)),
]


def main(argv: list[str]) -> int:
    try:
        copy(*argv)
    except (StargateError, OSError) as error:
        print(f"copier: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
