# SPDX-License-Identifier: Apache-2.0
"""What the processes of the engine get of the processors, asked of the kernel."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stargate import priority
from stargate.front.balance import EVEN_FROM, LOW_FROM, Balance, is_starved, share_for
from stargate.priority import Base, Progress, Share
from stargate.store.rest import REST_SECONDS_MAX, Rest, rest_seconds
from stargate.units import MiB
from tests.support.engine_site import EngineSite, wait_for

needs_right = pytest.mark.skipif(not priority.may_rise(), reason="needs the right to raise a priority again")
NOBODY = 65534
CAP_MIB = 64


def policies(pid: int) -> set[int]:
    found = set()
    for thread in priority.threads(pid):
        try:
            found.add(os.sched_getscheduler(thread))
        except ProcessLookupError:
            continue
    return found


def run_python(code: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@needs_right
def test_it_gives_the_store_what_is_left_and_more_as_the_log_fills(folder: Path) -> None:
    """Also while the store itself cannot run."""
    site = EngineSite(folder, log_cap_mib=CAP_MIB).start()
    try:
        name = "guest"
        site.disk(CAP_MIB * MiB, name)
        assert site.store is not None
        assert site.front is not None
        store = site.store.pid
        wait_for(lambda: policies(store) == {os.SCHED_IDLE}, "the store to be lowered")
        assert policies(site.front.pid) == {os.sched_getscheduler(0)}
        store_stops = site.store
        store_stops.send_signal(signal.SIGSTOP)
        seen = []
        with site.open(name) as client:
            for at, limit in enumerate((LOW_FROM, EVEN_FROM)):
                while site.engine.status()["log_used_bytes"] < limit * CAP_MIB * MiB:
                    client.write(at * MiB, os.urandom(MiB))
                expected = (os.SCHED_BATCH, os.sched_getscheduler(0))[at]
                wait_for(lambda wanted=expected: policies(store) == {wanted}, f"the store to be raised at {limit}")
                seen.append(site.engine.status()["store_share"])
        assert seen == ["low", "even"]
        store_stops.send_signal(signal.SIGCONT)
        wait_for(site.drained, "the drain")
        wait_for(lambda: policies(store) == {os.SCHED_IDLE}, "the store to be lowered again")
    finally:
        if site.store is not None:
            site.store.send_signal(signal.SIGCONT)
        site.stop()


@needs_right
def test_it_reaches_threads_that_began_since() -> None:
    """A thread has the class of the one that began it, or gets it at the next look."""
    with subprocess.Popen([sys.executable, "-c", _GROWING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            balance = Balance(lambda: process.pid, lambda: 0.0)
            process.stdout.readline()
            balance.look()
            assert policies(process.pid) == {os.SCHED_IDLE}
            process.stdin.write(b"raise one\n")
            process.stdin.flush()
            process.stdout.readline()
            assert policies(process.pid) != {os.SCHED_IDLE}
            balance.look()
            assert policies(process.pid) == {os.SCHED_IDLE}
        finally:
            process.kill()


_GROWING = """
import os, sys, threading
from stargate.priority import Base, Share, give
base = Base.mine()
print("ready", flush=True)
sys.stdin.readline()
def work():
    give(threading.get_native_id(), Share.EVEN, base)
    print("raised", flush=True)
    threading.Event().wait()
threading.Thread(target=work, daemon=True).start()
threading.Event().wait()
"""


def test_it_lowers_a_store_that_nobody_could_raise_by_little() -> None:
    base = Base.mine()
    code = (
        "import os, resource\nfrom stargate import priority\n"
        "resource.setrlimit(resource.RLIMIT_NICE, (0, 0))\n"
        f"if os.geteuid() == 0: os.setuid({NOBODY})\n"
        "print(int(priority.may_rise())); priority.settle()\n"
        "print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))"
    )
    assert run_python(code) == [0, os.SCHED_BATCH, min(19, base.nice + priority.STEADY_NICE)]


def test_it_serves_guests_in_short_slices_in_every_thread() -> None:
    number = {"x86_64": 315, "aarch64": 275}.get(platform.machine())
    if number is None:
        pytest.skip("no number of sched_getattr for this machine")

    found: list[tuple[int, int]] = []

    def ask() -> None:
        buffer = ctypes.create_string_buffer(48)
        assert ctypes.CDLL(None).syscall(number, 0, buffer, 48, 0) == 0
        _, policy, _, _, _, runtime, _, _ = struct.unpack("=IIQiIQQQ", buffer.raw)
        found.append((policy, runtime))

    def main() -> None:
        if os.sched_getscheduler(0) != os.SCHED_OTHER or not priority.prompt():
            return
        inner = threading.Thread(target=ask)
        inner.start()
        inner.join()

    outer = threading.Thread(target=main)  # the class of this test's own thread stays
    outer.start()
    outer.join()
    if not found or not found[0][1]:
        pytest.skip("this kernel has no slices of one's own")
    assert found == [(os.SCHED_OTHER, 1000 * priority.SLICE_MICROSECONDS)]


def test_it_decides_by_the_fill_and_not_back_and_forth() -> None:
    def walk(*fills: float) -> list[Share]:
        now, seen = Share.SPARE, []
        for fill in fills:
            now = share_for(fill, now, starved=False)
            seen.append(now)
        return seen

    assert walk(0.0, 0.44, 0.46, 0.42, 0.39) == [Share.SPARE, Share.SPARE, Share.LOW, Share.LOW, Share.SPARE]
    assert walk(0.54, 0.56, 0.51, 0.49, 0.99) == [Share.LOW, Share.EVEN, Share.EVEN, Share.LOW, Share.EVEN]
    assert share_for(0.0, Share.SPARE, starved=True) is Share.LOW
    assert share_for(1.0, Share.SPARE, starved=True) is Share.EVEN


def test_it_knows_who_starves() -> None:
    second = 10**9
    assert is_starved(Progress(0, 0), Progress(second // 100, 4 * second))
    assert not is_starved(Progress(0, 0), Progress(second, 4 * second))
    assert not is_starved(Progress(0, 0), Progress(0, second // 10))  # it hardly wanted anything


def test_it_rests_longer_between_steps_of_bulk_work_the_fuller_the_log_is() -> None:
    rests = [rest_seconds(fill / 10, 0.01) for fill in range(12)]
    assert rests[4] == 0.0 < rests[5]
    assert rests == sorted(rests)
    assert rests[-1] == pytest.approx(0.04)
    assert rest_seconds(1.0, 10.0) == REST_SECONDS_MAX


def test_it_does_not_rest_when_what_it_makes_room_for_waits() -> None:
    waits: list[float] = []
    urgent = [False]
    rest = Rest(lambda: 0.9, lambda: urgent[0], waits.append)
    rest.begin()
    rest()
    assert len(waits) == 1
    urgent[0] = True
    rest()
    assert len(waits) == 1
