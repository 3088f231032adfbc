# SPDX-License-Identifier: Apache-2.0
"""EpochContent against a plain dictionary."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from stargate.content import ZERO, EpochContent, IntervalSet

PER_CHUNK = 16
BLOCKS = 3 * 4096

_op = st.one_of(
    st.tuples(st.just("write"), st.integers(0, BLOCKS - 1), st.integers(1, 1 << 60)),
    st.tuples(st.just("zero"), st.integers(0, BLOCKS - 1), st.integers(1, 5000)),
    st.tuples(st.just("chunk"), st.integers(0, BLOCKS // PER_CHUNK - 1), st.integers(1, 255)),
)


def seen(content: EpochContent, block: int) -> object:
    """What a reader would find: a value, a digest, zero, or None for the parent."""
    value = content.get(block)
    if value is not None:
        return value
    digest = content.chunks.get(block // PER_CHUNK)
    if digest is not None:
        return digest
    return ZERO if block in content.zeros else None


@settings(max_examples=200, deadline=None)
@given(st.lists(_op, max_size=40))
def test_it_answers_like_a_dictionary(ops: list[tuple[str, int, int]]) -> None:
    content = EpochContent(PER_CHUNK)
    model: dict[int, object] = {}
    for kind, at, arg in ops:
        if kind == "write":
            content.write(at, arg)
            model[at] = arg
        elif kind == "zero":
            count = min(arg, BLOCKS - at)
            content.zero(at, count)
            model.update(dict.fromkeys(range(at, at + count), ZERO))
        else:
            digest = bytes([arg]) * 32
            content.set_chunk(at, digest)
            model.update(dict.fromkeys(range(at * PER_CHUNK, (at + 1) * PER_CHUNK), digest))
    assert [seen(content, b) for b in range(BLOCKS)] == [model.get(b) for b in range(BLOCKS)]
    own = [pair for chunk in range(BLOCKS // PER_CHUNK) for pair in content.of_chunk(chunk)]
    assert own == list(content.items())


def test_it_forgets_a_trimmed_tebibyte_without_walking_it() -> None:
    content = EpochContent(PER_CHUNK)
    for block in (0, 5000, 1 << 27):
        content.write(block, 7)
    content.zero(0, 1 << 28)
    assert not content.shards
    assert list(content.zeros) == [(0, 1 << 28)]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 40)), max_size=30))
def test_intervals_merge(ranges: list[tuple[int, int]]) -> None:
    found = IntervalSet()
    model: set[int] = set()
    for start, length in ranges:
        found.add(start, start + length)
        model.update(range(start, start + length))
    assert {b for b in range(260) if b in found} == model
    pieces = list(found)
    assert all(a[1] < b[0] for a, b in pairwise(pieces))
