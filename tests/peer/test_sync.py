# SPDX-License-Identifier: Apache-2.0
"""Sync of snapshots between two real stores over real TLS."""

from __future__ import annotations

import random

from stargate.extents.format import Kind
from stargate.extents.tree import TreeFormat, empty_root
from stargate.peer.wire import Scope
from stargate.units import CHUNK_BYTES
from tests.peer.sites import Site, granted, member, noise, order, same_bytes, version

COUNT = 700
"""Three leaves of 256: two levels."""


def chunks_put(site: Site) -> int:
    return sum(1 for item in site.ingest.items if item.kind == Kind.CHUNK)


def test_it_seeds_a_snapshot_of_several_disks(sites: tuple[Site, Site], rng: random.Random) -> None:
    a, b = sites
    contents = noise(rng, rng.sample(range(COUNT), 90))
    members = [
        member(a.store, version(a.store, contents, COUNT)),
        member(a.store, version(a.store, {3: b"\1" * CHUNK_BYTES}, 10)),
        member(a.store, empty_root(a.store, TreeFormat(5 * CHUNK_BYTES - 512))),
    ]
    a.store.flush()
    what = order(members, manifest={"format": 1, "name": "ü"})
    status = granted(a, b, what).run()
    assert (status.state, status.phase, status.error) == ("done", "published", None)
    assert status.done_bytes == status.total_bytes == sum(m.size_bytes for m in members)
    assert (status.chunks_total, status.chunks_sent, status.chunks_deduplicated) == (91, 91, 0)
    assert 90 * CHUNK_BYTES < status.wire_bytes < 100 * CHUNK_BYTES
    assert b.book.published[what.snapshot] == (tuple(members), {"format": 1, "name": "ü"})
    assert all(same_bytes(a.store, b.store, m.root) for m in members)


def test_it_moves_about_one_percent_when_one_percent_changed(sites: tuple[Site, Site], rng: random.Random) -> None:
    a, b = sites
    old = version(a.store, noise(rng, range(200)), COUNT)
    assert granted(a, b, order([member(a.store, old, DISK)])).run().state == "done"
    new = version(a.store, noise(rng, rng.sample(range(200), 2)), COUNT, root=old)
    status = granted(a, b, order([member(a.store, new, DISK)], bases={DISK: old})).run()
    assert (status.chunks_total, status.chunks_sent, status.chunks_deduplicated) == (2, 2, 0)
    assert status.wire_bytes < 3 * CHUNK_BYTES
    assert same_bytes(a.store, b.store, new)


DISK = "6b1c3b7e-0000-4000-8000-000000000001"


def test_it_moves_no_chunk_when_nothing_changed(sites: tuple[Site, Site], rng: random.Random) -> None:
    a, b = sites
    root = version(a.store, noise(rng, range(50)), COUNT)
    granted(a, b, order([member(a.store, root)])).run()
    before = len(b.ingest.items)
    status = granted(a, b, order([member(a.store, root)])).run()
    assert (status.state, status.chunks_sent, status.chunks_deduplicated) == ("done", 0, 50)
    assert len(b.ingest.items) == before
    assert status.done_bytes == status.total_bytes


def test_it_moves_no_chunk_of_a_file_known_under_another_name(sites: tuple[Site, Site], rng: random.Random) -> None:
    a, b = sites
    contents = noise(rng, range(50))
    version(b.store, {index + 13: data for index, data in contents.items()}, 100)
    status = granted(a, b, order([member(a.store, version(a.store, contents, COUNT))])).run()
    assert (status.state, status.chunks_sent, status.chunks_deduplicated) == ("done", 0, 50)
    assert chunks_put(b) == 0


def test_it_sends_a_repeated_chunk_once(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    same = rng.randbytes(CHUNK_BYTES)
    status = granted(a, b, order([member(a.store, version(a.store, dict.fromkeys(range(COUNT), same), COUNT))])).run()
    assert (status.chunks_total, status.chunks_sent, status.chunks_deduplicated) == (COUNT, 1, COUNT - 1)
    assert status.done_bytes == status.total_bytes == COUNT * CHUNK_BYTES
    assert chunks_put(b) == 1


def test_it_publishes_once_however_often_it_runs(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    job = granted(a, b, order([member(a.store, version(a.store, noise(rng, range(9)), 9))]))
    assert job.run().state == "done"
    stored = len(b.ingest.items)
    assert job.run().state == "done"
    assert len(b.ingest.items) == stored
    assert len(b.book.published) == 1


def test_it_compresses_what_pays_and_only_when_asked(two: tuple[Site, Site]) -> None:
    a, b = two
    a.store.compress = False
    texts = {i: (b"line %06d of a log file\n" % i * 3000)[:CHUNK_BYTES] for i in range(40)}
    root = version(a.store, texts, 40)
    status = granted(a, b, order([member(a.store, root)])).run()
    assert status.wire_bytes < 10 * CHUNK_BYTES
    assert same_bytes(a.store, b.store, root)
    plain = version(a.store, {i: bytes([i + 1]) * CHUNK_BYTES for i in range(40)}, 40)
    assert granted(a, b, order([member(a.store, plain)], compress=False)).run().wire_bytes > 40 * CHUNK_BYTES


def test_it_follows_a_disk_that_grew_and_shrank(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    old = version(a.store, noise(rng, range(100)), 200)
    granted(a, b, order([member(a.store, old, DISK)])).run()
    grown = version(a.store, noise(rng, [70_000]), 70_001, root=old)
    status = granted(a, b, order([member(a.store, grown, DISK)], bases={DISK: old}, fingerprinting=False)).run()
    assert (status.state, status.chunks_total, status.chunks_sent) == ("done", 1, 1)
    shrunk = version(a.store, noise(rng, [7]), 200, root=grown)
    status = granted(a, b, order([member(a.store, shrunk, DISK)], bases={DISK: grown}, fingerprinting=False)).run()
    assert (status.state, status.chunks_total, status.chunks_sent) == ("done", 1, 1)
    assert same_bytes(a.store, b.store, grown)
    assert same_bytes(a.store, b.store, shrunk)


def test_it_asks_nothing_about_the_store_with_fingerprinting_off(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    contents = noise(rng, range(60))
    version(b.store, contents, COUNT - 1)
    old = version(a.store, contents, COUNT)
    status = granted(a, b, order([member(a.store, old, DISK)], fingerprinting=False)).run()
    assert (status.chunks_sent, status.chunks_deduplicated) == (60, 0)
    new = version(a.store, noise(rng, [5]), COUNT, root=old)
    status = granted(a, b, order([member(a.store, new, DISK)], fingerprinting=False, bases={DISK: old})).run()
    assert (status.state, status.chunks_sent) == ("done", 1)
    assert all(scope is Scope.SESSION for scope, _ in b.ingest.questions)
    chunks = {a.store.put_chunk(data) for data in contents.values()}
    assert not any(chunks & set(names) for _, names in b.ingest.questions)


def test_it_obeys_a_receiver_that_wants_no_questions(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    what = order([member(a.store, version(a.store, noise(rng, range(5)), 5))])
    assert granted(a, b, what, fingerprinting=False).run().chunks_sent == 5
    assert all(scope is Scope.SESSION for scope, _ in b.ingest.questions)


def test_it_refuses_a_manifest_that_no_peer_would_take(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    what = order([member(a.store, version(a.store, noise(rng, [0]), 1))], manifest={"name": "x" * 3_000_000})
    status = granted(a, b, what).run()
    assert status.error is not None
    assert status.error["code"] == "invalid_argument"
    assert b.ingest.items == []


def test_it_fails_clearly_when_the_base_is_not_at_the_peer(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    old = version(a.store, noise(rng, range(5)), 5)
    new = version(a.store, noise(rng, [1]), 5, root=old)
    what = order([member(a.store, new, DISK)], fingerprinting=False, bases={DISK: old})
    status = granted(a, b, what).run()
    assert status.error is not None
    assert status.error["code"] == "peer_refused"
    assert what.snapshot not in b.book.published
    assert granted(a, b, order([member(a.store, new, DISK)])).run().state == "done"
