# SPDX-License-Identifier: Apache-2.0
"""N1: what nbdinfo is told. N11: the map of an export against what was written."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from stargate.nbd.client import NbdClient
from stargate.units import BLOCK_BYTES, CHUNK_BYTES, MiB
from tests.conformance.kit import Bench, Check, demand, run
from tests.support.engine_site import wait_for

SIZE = 64 * MiB
CAN = ("flush", "fua", "trim", "zero", "fast-zero", "df", "multi-conn", "cache")
DATA, HOLE = 0, 3


def info(bench: Bench) -> None:
    name = bench.disk(SIZE)
    (shown,) = json.loads(run("nbdinfo", "--json", "--no-content", bench.uri(name)))["exports"]
    demand(shown["export-size"] == SIZE, f"size {shown['export-size']}")
    demand(shown["contexts"] == ["base:allocation"], f"contexts {shown['contexts']}")
    flags = {key: value for key, value in shown.items() if key.startswith(("can_", "is_"))}
    wrong = {key: value for key, value in flags.items() if value is not (key not in ("is_read_only", "is_rotational"))}
    demand(not wrong, f"not as documented: {wrong}")
    sizes = [shown[f"block_size_{which}"] for which in ("minimum", "preferred", "maximum")]
    demand(sizes == [1, 4096, 32 * MiB], f"block sizes {sizes}")


def listing(bench: Bench) -> None:
    """All disks that are served; no snapshot, and no disk that is down."""
    names = {bench.disk(MiB) for _ in range(3)}
    down = bench.site.disk(MiB, "check-down")
    bench.site.snapshot(down)
    bench.site.engine.set_role([down], "down", reason="a check")
    listed = {e["export-name"] for e in json.loads(run("nbdinfo", "--list", "--json", bench.uri()))["exports"]}
    served = {d["export_name"] for d in bench.site.engine.vdisks() if d["role"] != "down"}
    demand(names <= listed == served, f"listed {listed}, served {served}")
    bench.site.engine.vdisk_delete(down)


def can(bench: Bench) -> None:
    name = bench.disk(MiB)
    for what in CAN:
        run("nbdinfo", "--can", what, bench.uri(name))
    run("nbdinfo", "--is", "read-only", bench.uri(name), ok=False)
    vdisk = bench.site.disk(MiB, f"{name}-2")
    snapshot = bench.uri(f"snapshot:{bench.site.snapshot(vdisk)}:{vdisk}")
    run("nbdinfo", "--is", "read-only", snapshot)
    run("nbdinfo", "--can", "write", snapshot, ok=False)


def shown_map(bench: Bench, name: str) -> list[tuple[int, int, int]]:
    """(offset, length, type), neighbours of one type joined."""
    found: list[dict[str, Any]] = json.loads(run("nbdinfo", "--map", "--json", bench.uri(name)))
    joined: list[tuple[int, int, int]] = []
    for part in found:
        if joined and joined[-1][2] == part["type"] and sum(joined[-1][:2]) == part["offset"]:
            joined[-1] = (joined[-1][0], joined[-1][1] + part["length"], part["type"])
        else:
            joined.append((part["offset"], part["length"], part["type"]))
    return joined


def map_of(written: set[int], unit: int, size: int) -> list[tuple[int, int, int]]:
    """As `shown_map`, when exactly the units of `unit` bytes in `written` hold data."""
    spans = []
    for data, group in groupby(range(size // unit), key=written.__contains__):
        run_of = list(group)
        spans.append((run_of[0] * unit, len(run_of) * unit, DATA if data else HOLE))
    return spans


def write_pattern(bench: Bench, name: str, unit: int) -> set[int]:
    """A random third of the units written, some of those zeroed again."""
    rng = bench.rng(f"map {unit}")
    units = SIZE // unit
    written = set(rng.sample(range(units), units // 3))
    zeroed = set(rng.sample(sorted(written), len(written) // 5))
    with NbdClient.unix(bench.site.engine.nbd_socket, name) as client:
        for at in sorted(written):
            client.submit_write(at * unit, rng.randbytes(unit))
        client.flush()
        for at in zeroed:
            client.trim(at * unit, unit)
    return written - zeroed


def exact_map(bench: Bench) -> None:
    name = bench.disk(SIZE)
    written = write_pattern(bench, name, BLOCK_BYTES)
    demand(shown_map(bench, name) == map_of(written, BLOCK_BYTES, SIZE), "the map is not what was written")
    totals = {line.split()[-1]: int(line.split()[0]) for line in _totals(bench, name)}
    data = len(written) * BLOCK_BYTES
    demand(totals == {"data": data, "hole,zero": SIZE - data}, f"totals {totals}, written {data}")


def _totals(bench: Bench, name: str) -> list[str]:
    return run("nbdinfo", "--map", "--totals", bench.uri(name)).splitlines()


def map_after_drain(bench: Bench) -> None:
    """Whole chunks stay exact in every life of the bytes: log, hot tier, chunk store, snapshot, restarted engine."""
    name = bench.disk(SIZE)
    vdisk = next(d["vdisk"] for d in bench.site.engine.vdisks() if d["export_name"] == name)
    written = write_pattern(bench, name, CHUNK_BYTES)
    expected = map_of(written, CHUNK_BYTES, SIZE)
    demand(shown_map(bench, name) == expected, "in the log: the map is not what was written")
    snapshot = bench.site.snapshot(vdisk)
    wait_for(bench.site.drained, "the drain")
    demand(shown_map(bench, name) == expected, "drained: the map is not what was written")
    bench.site.engine.wait_rooted(snapshot)
    demand(shown_map(bench, f"snapshot:{snapshot}:{vdisk}") == expected, "in a snapshot: not what was written")
    bench.site.restart()
    demand(shown_map(bench, name) == expected, "after a restart: the map is not what was written")


def holes_survive_copies(bench: Bench) -> None:
    name, target = bench.disk(SIZE), bench.disk(SIZE)
    written = write_pattern(bench, name, CHUNK_BYTES)
    image = bench.file("sparse.raw")
    run("nbdcopy", bench.uri(name), image)
    demand(image.stat().st_blocks * 512 <= len(written) * CHUNK_BYTES + MiB, "the file holds more than was written")
    run("nbdcopy", image, bench.uri(target))
    demand(shown_map(bench, target) == map_of(written, CHUNK_BYTES, SIZE), "the copy has other holes")
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", bench.uri(name), bench.uri(target))


CHECKS = [
    Check("N1", "nbdinfo --json", info, ("nbdinfo",)),
    Check("N1", "nbdinfo --list", listing, ("nbdinfo",)),
    Check("N1", "nbdinfo --can", can, ("nbdinfo",)),
    Check("N11", "nbdinfo --map is exact", exact_map, ("nbdinfo",)),
    Check("N11", "the map through drain, snapshot and restart", map_after_drain, ("nbdinfo",)),
    Check("N11", "sparse copies keep holes", holes_survive_copies, ("nbdinfo", "nbdcopy", "qemu-img")),
]
