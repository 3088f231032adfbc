# SPDX-License-Identifier: Apache-2.0
"""Chunks that are delivered before the job that needs them knows a root."""

from __future__ import annotations

import random
from collections.abc import Iterator

from stargate.clock import SystemClock
from stargate.errors import PeerUnreachable
from stargate.peer.client import PeerClient, Target
from stargate.peer.early import EarlySender
from stargate.peer.sync import Order
from stargate.units import CHUNK_BYTES
from tests.peer.sites import Site, granted, job, member, noise, order, same_bytes, to_site, version
from tests.peer.test_sync import COUNT, chunks_put

Batches = list[list[tuple[bytes, int]]]


def early(source: Site, what: Order) -> EarlySender:
    return EarlySender(
        what.session, what.snapshot, source.store, clock=SystemClock(), compress=True, pack_threads=1
    )  # fmt: skip


def connecting(source: Site, target: Site, what: Order) -> PeerClient:
    where = Target("127.0.0.1", target.port, target.site_id)
    return PeerClient.connect(where, to_site(source, target.site_id), source.peers, source.site_id, what.session)


def stored(site: Site, contents: dict[int, bytes]) -> list[tuple[bytes, int]]:
    found = [(site.store.put_chunk(data), CHUNK_BYTES) for data in contents.values()]
    site.store.flush()
    return found


def test_it_delivers_chunks_that_the_job_then_finds_there(sites: tuple[Site, Site], rng: random.Random) -> None:
    a, b = sites
    contents = noise(rng, rng.sample(range(COUNT), 90))
    names = stored(a, {index: contents[index] for index in list(contents)[:60]})
    what = order([member(a.store, version(a.store, contents, COUNT))])
    follows = granted(a, b, what)
    sender = early(a, what)
    sender.run(lambda: connecting(a, b, what), [names[:25], [], names[25:]])
    assert sender.counters.chunks_sent == chunks_put(b) == 60
    assert b.book.published == {}
    assert 60 * CHUNK_BYTES < sender.wire_bytes < 66 * CHUNK_BYTES
    follows = job(a, b, what, earlier=sender.counters, earlier_wire_bytes=sender.wire_bytes)
    status = follows.run()
    assert (status.state, status.chunks_total, status.chunks_sent, status.chunks_deduplicated) == ("done", 90, 90, 0)
    assert status.done_bytes == status.total_bytes
    assert 90 * CHUNK_BYTES < status.wire_bytes < 100 * CHUNK_BYTES
    assert chunks_put(b) == 90
    assert same_bytes(a.store, b.store, what.members[0].root)


def test_it_delivers_nothing_where_fingerprinting_is_off(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    names = stored(a, noise(rng, range(5)))
    what = order([member(a.store, version(a.store, noise(rng, range(5)), COUNT))])
    granted(a, b, what, fingerprinting=False)
    sender = early(a, what)
    sender.run(lambda: connecting(a, b, what), [names])
    assert (sender.counters.chunks_sent, b.ingest.items, b.ingest.questions) == (0, [], [])


def test_it_leaves_everything_to_the_job_when_the_peer_is_away(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    what = order([member(a.store, version(a.store, noise(rng, range(5)), COUNT))])
    follows = granted(a, b, what)
    sender = early(a, what)

    def away() -> PeerClient:
        raise PeerUnreachable("nobody there")

    sender.run(away, [])
    assert (sender.counters.chunks_sent, sender.wire_bytes) == (0, 0)
    assert follows.run().state == "done"


def test_it_stops_when_it_is_cancelled(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    names = stored(a, noise(rng, range(40)))
    what = order([member(a.store, version(a.store, noise(rng, range(5)), COUNT))])
    granted(a, b, what)
    sender = early(a, what)

    def batches() -> Iterator[list[tuple[bytes, int]]]:
        yield names[:20]
        sender.cancel()
        yield names[20:]
        raise AssertionError("it asks for more after it was cancelled")

    sender.run(lambda: connecting(a, b, what), batches())
    assert chunks_put(b) < 40
