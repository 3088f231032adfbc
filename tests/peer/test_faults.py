# SPDX-License-Identifier: Apache-2.0
"""Sync over spoiled links: it ends with an error soon, and the next run sends only what is missing."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from stargate.extents.format import Kind
from stargate.peer import conversation, link, outbox
from stargate.peer.client import PeerClient
from stargate.peer.outbox import Cancelled, Gate
from tests.peer.sites import Site, granted, member, noise, order, same_bytes, version
from tests.support.faultproxy import FaultProxy

COUNT = 700
DISK_CHUNKS = 120


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)


def scattered(site: Site, rng: random.Random) -> bytes:
    return version(site.store, noise(rng, rng.sample(range(COUNT), DISK_CHUNKS)), COUNT)


@pytest.mark.parametrize("fingerprinting", [True, False])
@pytest.mark.parametrize("fault", ["cut_after", "reset_after"])
def test_it_resumes_after_any_cut_and_sends_nothing_twice(
    two: tuple[Site, Site], rng: random.Random, fault: str, fingerprinting: bool
) -> None:
    a, b = two
    root = scattered(a, rng)
    with FaultProxy(("127.0.0.1", b.port)) as proxy:
        job = granted(a, b, order([member(a.store, root)], fingerprinting=fingerprinting), port=proxy.address[1])
        for _ in range(6):
            getattr(proxy, fault)(rng.randrange(1, 3_000_000))
            if job.run().state == "done":
                break
            assert job.status().error is not None
            assert job.status().error["code"] == "peer_unreachable"
            assert not b.book.published
            until(lambda: not b.server.connections())
        proxy.heal()
        status = job.run()
    assert (status.state, status.done_bytes) == ("done", status.total_bytes)
    assert same_bytes(a.store, b.store, root)
    if fingerprinting:
        assert max(Counter(item.hash for item in b.ingest.items).values()) == 1


def test_it_resumes_at_whole_leaves_without_asking_about_chunks(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    root = scattered(a, rng)
    with FaultProxy(("127.0.0.1", b.port)) as proxy:
        job = granted(a, b, order([member(a.store, root)], fingerprinting=False), port=proxy.address[1])
        proxy.cut_after(7_000_000)
        assert job.run().state == "failed"
        until(lambda: not b.server.connections())
        proxy.heal()
        leaves = [item.hash for item in b.ingest.items if item.kind == Kind.LEAF]
        before = len(b.ingest.items)
        assert job.run().state == "done"
    again = {item.hash for item in b.ingest.items[before:]}
    assert not again & set(leaves)
    assert same_bytes(a.store, b.store, root)


def test_it_survives_a_link_that_cuts_bytes_into_slices(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    root = version(a.store, noise(rng, range(8)), 8)
    with FaultProxy(("127.0.0.1", b.port)) as proxy:
        proxy.slice(rng.randrange(100, 1500))
        assert granted(a, b, order([member(a.store, root)]), port=proxy.address[1]).run().state == "done"
    assert same_bytes(a.store, b.store, root)


def test_it_promises_to_notice_a_dead_link_within_15_seconds() -> None:
    assert link.IDLE_SECONDS <= 15
    assert link.BEAT_SECONDS * 2 < link.IDLE_SECONDS


@pytest.mark.parametrize("direction", ["up", "down", "both"])
def test_it_notices_a_half_open_link_on_both_ends(
    two: tuple[Site, Site], rng: random.Random, monkeypatch: pytest.MonkeyPatch, direction: Any
) -> None:
    a, b = two
    monkeypatch.setattr(link, "IDLE_SECONDS", 1.0)
    root = scattered(a, rng)
    with FaultProxy(("127.0.0.1", b.port)) as proxy:
        proxy.slow(4_000_000)
        job = granted(a, b, order([member(a.store, root)]), port=proxy.address[1])
        job.start()
        until(lambda: job.status().chunks_sent > 0)
        if direction == "both":
            proxy.stall()
        else:
            proxy.swallow(direction)
        status = job.wait(60)
        assert status.error is not None
        assert (status.state, status.error["code"]) == ("failed", "peer_unreachable")
        until(lambda: not b.server.connections())
        proxy.cut_now()
        proxy.heal()
        assert job.run().state == "done"
    assert same_bytes(a.store, b.store, root)


def test_it_fails_clearly_when_nobody_listens(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    job = granted(a, b, order([member(a.store, version(a.store, noise(rng, [0]), 1))]))
    b.server.stop()
    status = job.run()
    assert status.error is not None
    assert (status.phase, status.error["code"]) == ("connecting", "peer_unreachable")


def test_it_keeps_a_paused_link_alive(
    two: tuple[Site, Site], rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    monkeypatch.setattr(outbox, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(link, "IDLE_SECONDS", 0.6)
    pings: list[None] = []
    plain = PeerClient.ping
    monkeypatch.setattr(PeerClient, "ping", lambda self: (plain(self), pings.append(None)))
    job = granted(a, b, order([member(a.store, scattered(a, rng))]))
    job.pause()
    job.start()
    until(lambda: len(pings) > 30)
    assert job.status().chunks_sent == 0
    job.resume()
    assert job.wait(60).state == "done"


def test_it_waits_for_a_slow_receiver_that_shows_life(
    two: tuple[Site, Site], rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    monkeypatch.setattr(conversation, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(link, "IDLE_SECONDS", 0.5)
    plain = b.book.publish

    def slow(*args: Any) -> None:
        threading.Event().wait(1.5)  # three times longer than silence is tolerated
        plain(*args)

    monkeypatch.setattr(b.book, "publish", slow)
    assert granted(a, b, order([member(a.store, version(a.store, noise(rng, [0]), 1))])).run().state == "done"


def test_it_stops_when_cancelled(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    with FaultProxy(("127.0.0.1", b.port)) as proxy:
        proxy.slow(2_000_000)
        what = order([member(a.store, scattered(a, rng))])
        job = granted(a, b, what, port=proxy.address[1])
        job.start()
        until(lambda: job.status().chunks_sent > 0)
        job.cancel()
        assert job.wait(60).state == "cancelled"
    assert not b.book.published


class StepClock:
    """A clock that moves by a millisecond whenever somebody looks."""

    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        self.time += 0.001
        return self.time

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def test_it_lets_no_more_pass_than_the_rate_allows() -> None:
    clock = StepClock()
    gate = Gate(clock, lambda: 1_000_000)
    for _ in range(20):
        gate.pass_bytes(5_000, lambda: None)
    assert clock.time >= 19 * 5_000 / 1_000_000
    gate.cancel()
    with pytest.raises(Cancelled):
        gate.pass_bytes(1, lambda: None)
