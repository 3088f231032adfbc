# SPDX-License-Identifier: Apache-2.0
"""The real sync, a few hundred times, over a network in memory that cuts, stalls, slows and slices (LAW 5)."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, Literal

import pytest

from stargate.extents.tree import diff
from stargate.memtransport import Fault, Spoil
from stargate.peer import conversation, outbox
from stargate.units import KiB
from tests.peer.sim import Certificates, Sim

SEEDS_PER_TEST = 30
ATTEMPTS = 6
BYTES = 250_000
"""About what a whole run moves up; faults lie anywhere below, early ones as often as late ones."""

KINDS: tuple[Literal["cut", "stall", "vanish"], ...] = ("cut", "stall", "vanish")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("identities"))


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short frames, so that a cut falls between two as often as into one. No STATUS: it comes by real time."""
    monkeypatch.setattr(conversation, "BEAT_SECONDS", 600.0)
    monkeypatch.setattr(outbox, "FRAME_BYTES", 10 * KiB)


def fault(rng: random.Random, most: int) -> Fault | None:
    return Fault(rng.choice(KINDS), int(most ** rng.random())) if rng.random() < 0.6 else None


def spoil(rng: random.Random) -> Spoil:
    return Spoil(
        up=fault(rng, BYTES),
        down=fault(rng, 3_000),
        slice_bytes=rng.choice([None, None, 100, 1500]),
        bytes_per_second=rng.choice([None, 100_000]),
    )


def equal(sim: Sim, root: bytes) -> bool:
    ours, theirs = (list(diff(store, None, root)) for store in (sim.source, sim.store))
    return ours == theirs and all(sim.source.read_chunk(name) == sim.store.read_chunk(name) for _, _, name in theirs)


def check(sim: Sim, *, fingerprinting: bool) -> None:
    """What must hold at every instant."""
    for members, _ in sim.book.published.values():
        assert all(equal(sim, member.root) for member in members)
    assert sim.half_trees() == []
    if fingerprinting and sim.sent:
        assert not set(sim.sent[-1]) & sim.ingest.here
        assert max(Counter(sim.sent[-1]).values(), default=1) == 1


def story(seed: int, certificates: Certificates, *, power_cuts: bool) -> list[Any]:
    """A snapshot of one to three disks sent over bad links until it arrived; what happened on the way."""
    rng = random.Random(seed)
    sim = Sim(rng, certificates)
    fingerprinting = rng.random() < 0.7
    members = [sim.disk_of(count, rng.randint(0, min(count, 30))) for count in rng.choices([1, 9, 70, 300], k=3)]
    job = sim.job(members[: rng.randint(1, 3)], fingerprinting=fingerprinting)
    told: list[Any] = []
    for attempt in range(ATTEMPTS):
        sim.network.spoil_next(spoil(rng) if attempt < ATTEMPTS - 1 else Spoil())
        told.append((sim.run(job), job.status().chunks_sent, sim.clock.now(), sim.sent[-1]))
        check(sim, fingerprinting=fingerprinting)
        if power_cuts and rng.random() < 0.5:
            sim.power_cut()
            sim.sent.clear()
            check(sim, fingerprinting=fingerprinting)
        if told[-1][0] == "done":
            break
        assert told[-1][0] == "peer_unreachable"
    assert told[-1][0] == "done"
    assert len(sim.book.published) == 1
    sim.close()
    return told


@pytest.mark.parametrize("power_cuts", [False, True], ids=["links", "links and power"])
@pytest.mark.parametrize("block", range(5))
def test_it_arrives_whole_over_any_link(certificates: Certificates, block: int, power_cuts: bool) -> None:
    base = random.SystemRandom().randrange(2**32)
    for seed in range(base, base + SEEDS_PER_TEST):
        print(f"seed {seed} power_cuts {power_cuts} block {block}")
        story(seed, certificates, power_cuts=power_cuts)


def test_it_repeats_a_seed_exactly(certificates: Certificates) -> None:
    base = random.SystemRandom().randrange(2**32)
    for seed in range(base, base + 10):
        print(f"seed {seed}")
        assert story(seed, certificates, power_cuts=True) == story(seed, certificates, power_cuts=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["up", "down"])
def test_it_notices_every_kind_of_dead_link(certificates: Certificates, kind: Any, way: str) -> None:
    sim = Sim(random.Random(1), certificates)
    job = sim.job([sim.disk_of(70, 60)])
    began = sim.clock.now()
    fault = Fault(kind, 100_000 if way == "up" else 250)
    sim.network.spoil_next(Spoil(up=fault) if way == "up" else Spoil(down=fault))
    assert sim.run(job) == "peer_unreachable"
    assert sim.clock.now() - began <= 15
    assert sim.sent[-1]
    assert sim.run(job) == "done"
    sim.close()


def test_it_sends_only_the_rest_after_a_cut(certificates: Certificates) -> None:
    sim = Sim(random.Random(2), certificates)
    job = sim.job([sim.disk_of(70, 60)])
    sim.network.spoil_next(Spoil(up=Fault("cut", 150_000)))
    assert [sim.run(job), sim.run(job)] == ["peer_unreachable", "done"]
    first, second = (set(names) for names in sim.sent)
    assert first
    assert not first & second
    sim.close()


def test_it_refuses_a_connection_that_proves_another_certificate(certificates: Certificates) -> None:
    sim = Sim(random.Random(3), Certificates(certificates.target, certificates.target))
    sim.certificates = certificates
    assert sim.run(sim.job([sim.disk_of(9, 9)])) == "peer_unreachable"
    assert sim.ingest.questions == []
    sim.close()
