# SPDX-License-Identifier: Apache-2.0
"""A short run of `make fuzz`, always with another seed; it is printed when something is found."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz import nbd
from tests.fuzz.attack import GROWTH_BYTES_MAX, VICTIM_BYTES, Attack
from tests.fuzz.peer import Liar


def test_it_survives_hostile_clients_and_sites(tmp_path: Path) -> None:
    seed = random.getrandbits(32)
    report = Attack(tmp_path, seed).run(3000)
    assert not report.violations, (seed, report.violations)
    assert max(report.growth_bytes.values()) <= GROWTH_BYTES_MAX, (seed, report.growth_bytes)
    assert report.nbd_messages > 500
    assert report.peer_messages > 500


def test_it_says_the_same_for_the_same_seed() -> None:
    said = []
    for _ in range(2):
        rng = random.Random(7)
        liar = Liar(rng, "00000000-0000-0000-0000-000000000001")
        session = "00000000-0000-0000-0000-000000000002"
        said.append(
            [(nbd.conversation(rng, 60, VICTIM_BYTES), liar.conversation(session, session, 60)) for _ in range(30)]
        )
    assert said[0] == said[1]
