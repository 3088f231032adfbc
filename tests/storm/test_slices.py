# SPDX-License-Identifier: Apache-2.0
"""What the store sends in a burst does not hold up guests: the front applies one slice per turn of its loop."""

from __future__ import annotations

from random import Random

from tests.engine.harness import Site

OPS = 40


def test_it_applies_one_op_per_turn_however_many_came_at_once() -> None:
    site = Site(Random(1))
    site.start()
    front = site.front
    assert front is not None
    first = front.engine.state.n
    for number in range(1, OPS + 1):
        front.link._take({"op": "sweep", "sweep": number, "n": first + number})
    turns = 0
    while front.calls:
        assert len(front.calls) == 1, "the loop makes all calls that it finds in one turn"
        front.calls.popleft()()
        turns += 1
        assert front.engine.state.n <= first + turns
    assert front.engine.state.n == first + OPS
    front.link._take({"op": "sweep", "sweep": OPS, "n": first + OPS + 1})
    assert len(front.calls) == 1, "it is asked for again after it ran dry"
