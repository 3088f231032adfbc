# SPDX-License-Identifier: Apache-2.0
"""Two real sites over a spoiled link: a sync ends or resumes, sends nothing twice, and no job is ever stuck."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stargate.peer.outbox import UNDER_WAY_BYTES
from stargate.units import KiB, MiB
from tests.storm.pair import Pair
from tests.support.engine_site import wait_for
from tests.support.faultproxy import FaultProxy
from tests.support.loopback import loopback

SILENCE_SECONDS = 3.0
DATA_BYTES = 8 * MiB
LARGE_BYTES = 112 * MiB

Spoil = Callable[[FaultProxy], None]

BREAKING: dict[str, Spoil] = {
    "cut": lambda proxy: proxy.cut_after(1),
    "reset": lambda proxy: proxy.reset_after(1),
    "stalled both ways": lambda proxy: proxy.stall(),
    "stalled towards the target": lambda proxy: proxy.stall("up"),
    "stalled towards the source": lambda proxy: proxy.stall("down"),
    "one-way, nothing arrives": lambda proxy: proxy.swallow("up"),
    "one-way, nothing comes back": lambda proxy: proxy.swallow("down"),
}
BENDING: dict[str, tuple[Spoil, int]] = {
    "slow, 4 Mbit/s": (lambda proxy: proxy.slow(500_000), 2 * MiB),  # as 1 Mbit/s is for the default silence
    "lag of 300 ms each way": (lambda proxy: proxy.lag(0.3), 256 * KiB),
    "slices of 1 byte": (lambda proxy: proxy.slice(1), 256 * KiB),
    "slices of 700 bytes": (lambda proxy: proxy.slice(700), 8 * MiB),
}
"""What a link does from half of a sync on; with how much data it is tried."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    folder = Path(tempfile.mkdtemp(prefix="lnk-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STARGATE_SILENCE_SECONDS", str(SILENCE_SECONDS))
        made = Pair(folder, (loopback(33), loopback(34)), log_cap_mib=512, segment_mib=16)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def proxy(pair: Pair) -> Iterator[FaultProxy]:
    direct = pair.port
    with FaultProxy(direct) as made:
        pair.port = made.address
        yield made
        made.heal()
    pair.port = direct


def filled(pair: Pair, size: int) -> tuple[str, str]:
    """(snapshot, disk) of new random data, folded."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"data seed {seed}")
    rng = random.Random(seed)
    disk = pair.here.disk(size)
    with pair.here.open(disk) as client:
        for at in range(0, size, 256 * KiB):
            client.write(at, rng.randbytes(256 * KiB))
    snapshot = pair.here.snapshot(disk)
    pair.here.engine.wait_rooted(snapshot)
    return snapshot, disk


def arrived(pair: Pair, snapshot: str, disk: str) -> bool:
    wait_for(lambda: any(s["snapshot"] == snapshot for s in pair.there.engine.snapshots()), "the snapshot")
    name = f"snapshot:{snapshot}:{disk}"
    return pair.here.content(name) == pair.there.content(name)


def halfway(proxy: FaultProxy, before: int, size: int) -> None:
    wait_for(lambda: proxy.moved["up"] - before > size // 2, "half of the data to be under way")


def finished(pair: Pair, job: str, snapshot: str) -> dict[str, Any]:
    """The job's last status, started again as the control plane does until it is done."""
    for _ in range(5):
        pair.begin(snapshot, session=job)
        status = pair.wait(job)
        if status["state"] == "done":
            return status
    raise AssertionError(f"it does not get done over a healed link: {status}")


def connected(port: int) -> bool:
    """Has a process of this machine an end of a connection to `port` still open (established or half closed)?"""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] in ("01", "08") and row[9] != "0" for row in rows)


@pytest.mark.parametrize("fault", BREAKING)
def test_it_gives_a_broken_link_up_in_time_and_resumes(pair: Pair, proxy: FaultProxy, fault: str) -> None:
    snapshot, disk = filled(pair, DATA_BYTES)
    proxy.slow(4_000_000)
    job = pair.begin(snapshot)
    halfway(proxy, 0, DATA_BYTES)
    BREAKING[fault](proxy)
    began = time.monotonic()
    status = pair.wait(job, SILENCE_SECONDS + 15)
    assert (status["state"], status["error"]["code"]) == ("failed", "peer_unreachable")
    print(f"noticed after {time.monotonic() - began:.1f} s")
    assert not any(s["snapshot"] == snapshot for s in pair.there.engine.snapshots())
    proxy.cut_now()
    proxy.heal()
    assert finished(pair, job, snapshot)["done_bytes"] == DATA_BYTES
    assert arrived(pair, snapshot, disk)


@pytest.mark.parametrize("fault", BENDING)
def test_it_takes_a_bad_link_for_no_dead_one(pair: Pair, proxy: FaultProxy, fault: str) -> None:
    spoil, size = BENDING[fault]
    snapshot, disk = filled(pair, size)
    spoil(proxy)
    status = pair.wait(pair.begin(snapshot))
    assert status["state"] == "done", status
    assert proxy.connections == 1
    assert arrived(pair, snapshot, disk)


@pytest.mark.parametrize("fault", ["cut_after", "reset_after"])
def test_it_sends_only_what_was_under_way_again(pair: Pair, proxy: FaultProxy, fault: str) -> None:
    """Counted where the proxy hands bytes to the kernel, with everything that a second connection costs. A reset
    destroys what lies in the proxy's buffers: at most what the sender has under way. A plain end does not, unless it is
    answered, for the answer to a closed connection is a reset; so the target reads first.
    """
    filled_once = filled(pair, LARGE_BYTES)[0]
    assert pair.wait(pair.begin(filled_once))["state"] == "done"
    plain = proxy.moved["up"]
    snapshot, disk = filled(pair, LARGE_BYTES)
    getattr(proxy, fault)(random.SystemRandom().randrange(MiB, plain - MiB))
    job = pair.begin(snapshot)
    assert pair.wait(job)["state"] == "failed"
    wait_for(lambda: not connected(pair.there.peer_port), "the target to end the connection")
    finished(pair, job, snapshot)
    again = proxy.moved["up"] - 2 * plain
    print(f"{again} bytes of {plain} were sent again")
    lost = UNDER_WAY_BYTES if fault == "reset_after" else 0
    assert again <= plain // 100 + 64 * KiB + lost
    assert arrived(pair, snapshot, disk)


def test_a_cancelled_job_ends_although_its_link_is_dead(pair: Pair, proxy: FaultProxy) -> None:
    snapshot, disk = filled(pair, DATA_BYTES)
    proxy.slow(4_000_000)
    job = pair.begin(snapshot)
    halfway(proxy, 0, DATA_BYTES)
    proxy.stall()
    pair.here.engine.sync_cancel(job)
    assert pair.wait(job, SILENCE_SECONDS + 15)["state"] in ("cancelled", "failed")
    proxy.cut_now()
    proxy.heal()
    finished(pair, job, snapshot)
    assert arrived(pair, snapshot, disk)
