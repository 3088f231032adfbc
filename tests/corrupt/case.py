# SPDX-License-Identifier: Apache-2.0
"""One case: a site is damaged while it runs or rests; then it must be found, healed if it can be, and never served."""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from unittest.mock import patch

from stargate.errors import StargateError
from stargate.oplog.damage import DamagedLog
from stargate.scrub.offline import check
from stargate.units import BLOCK_BYTES
from tests.corrupt.base import Base, Image, exports
from tests.corrupt.damage import Damage, damage_file, damage_index
from tests.corrupt.files import FileCase
from tests.corrupt.live import live_bytes, needed_extents
from tests.engine.harness import Site
from tests.scrub.world import Member

CASES_PER_BASE = 100
FILE_CASE_EVERY = 50
"""Every so many cases one on real files, which costs some processes."""


@dataclass
class Outcome:
    """`error`: the rule that was broken; empty when none was."""

    seed: int
    live: bool = False
    healable: bool = False
    healed: bool = False
    refused: bool = False
    story: str = ""
    error: str = ""


@contextmanager
def seeded(seed: str) -> Iterator[None]:
    """All that the engine draws at random follows the seed."""
    rng = Random(seed)
    with patch.object(os, "urandom", rng.randbytes), patch.object(secrets, "token_bytes", rng.randbytes):
        yield


@functools.lru_cache(maxsize=2)
def base_of(number: int) -> Base:
    with seeded(f"engine of {number}"):
        return Base(Random(f"base {number}"))


def run(seed: int) -> Outcome:
    """Case `seed`; the same seed is the same case."""
    outcome = Outcome(seed)
    try:
        base_of(seed // CASES_PER_BASE)
        with seeded(f"engine of case {seed}"):
            if seed % FILE_CASE_EVERY == FILE_CASE_EVERY - 1:
                _on_files(seed, outcome)
            else:
                Case(seed, outcome).play()
    except Violation as exc:
        outcome.error = str(exc)
    except Exception as exc:
        if "CORRUPT_TRACE" in os.environ:
            raise
        outcome.error = f"{type(exc).__name__}: {exc}"
    return outcome


def _on_files(seed: int, outcome: Outcome) -> None:
    rng = Random(seed)
    case = FileCase(rng.choice(base_of(seed // CASES_PER_BASE).images), rng)
    outcome.error = case.play()
    outcome.story, outcome.live = case.story, case.live
    outcome.healable = outcome.healed = case.live and "data.mdb" in case.story
    outcome.refused = case.live and not outcome.healable


class Violation(Exception):
    """A rule was broken."""


class Case:
    """See the module."""

    def __init__(self, seed: int, outcome: Outcome) -> None:
        self.rng = Random(seed)
        self.outcome = outcome
        images = base_of(seed // CASES_PER_BASE).images
        own, other = self.rng.sample(images, 2)
        self.image: Image = own
        self.member, self.peer = own.load(self.rng), other.load(self.rng)
        self.member.other, self.peer.other = self.peer, self.member
        self.peer_expected = other.expected
        self.checked = False
        self.needed: set[str] = set()

    def play(self) -> None:
        self.member.start()
        self.peer.start()
        running = self.rng.random() < 0.5
        self._damage(running)
        found = self._start() if not running else True
        if not found:
            self.outcome.refused = True
        else:
            self._scrub()
            self._read("after the scrub")
            self._go_on()
        self._check_peer()

    # -- damage

    def _damage(self, running: bool) -> None:
        member, outcome = self.member, self.outcome
        needed = needed_extents(member)
        if self.rng.random() < 0.15:
            if not running:
                member.stop()
            kind, names = damage_index(member.site, needed, self.rng)
            outcome.live, outcome.healable = bool(names), True
            outcome.story = f"index entry {kind}"
        else:
            live = live_bytes(member)
            self.needed = {part.what for part in live}
            if not running:
                member.stop()
            done = damage_file(member.site, live, self.rng)
            outcome.live, outcome.healable = bool(done.hit), _healable(done, running)
            hit = sorted({part.what for part in done.hit})
            outcome.story = f"{done.kind} of {done.path}, {done.what}: {', '.join(hit[:4]) or 'nobody needs it'}"
        if not running:
            self.checked = self._check_offline()
        outcome.story += " while it runs" if running else " at rest"
        if running:
            for name in needed:
                member.store.extents.drop_cached(name)
            if "/lock," in outcome.story:  # the store believes that another took over, and ends
                member.stop()
                member.start()

    def _check_offline(self) -> bool:
        """Whether the check of a stopped site finds something; it changes nothing."""
        site = self.member.site
        before = site.disk.snapshot()
        problems = list(check(site.disk, site.index))
        self._demand(site.disk.snapshot() == before, "the check changed something")
        if self.outcome.live:
            self._demand(bool(problems), "the offline check did not find it: not found")
        return bool(problems)

    # -- what must follow

    def _start(self) -> bool:
        """False: a half of the engine refuses, which names the damage."""
        try:
            self.member.start()
        except (StargateError, OSError) as exc:
            self._demand(self.outcome.live, f"it refuses to start although nobody needs those bytes: {exc}")
            self._demand(not self.outcome.healable, f"it refuses to start although it could be healed: {exc}")
            self.outcome.story += f"; refused: {exc}"
            return False
        return True

    def _scrub(self) -> None:
        health = self.member.scrub()
        self.member.site.settle()
        assert self.member.site.front is not None
        served_anyway = isinstance(self.member.site.front.engine.log, DamagedLog)
        found = bool(health["damaged"] or health["healed"] or served_anyway or self.checked)
        if self.outcome.live:
            self._demand(found, "it was not found")
            self.outcome.healed = not self._still_damaged() and not served_anyway
            self._demand(self.outcome.healed or not self.outcome.healable, f"it was not healed: {health}")

    def _still_damaged(self) -> list[str]:
        """Findings but those about blocks of the hot tier over which the log has newer ones: the store cannot know."""
        assert self.member.scrubber is not None
        keys = self.member.scrubber.dates.state.damaged
        return [key for key in keys if not key.startswith("hot:") or f"hot block {key.split(':')[3]}" in self.needed]

    def _read(self, when: str) -> None:
        """Right bytes or a refusal; nothing is refused when all is healed."""
        site = self.member.site
        assert site.front is not None
        there = set(exports(site))
        # What a damaged log created behind the damage is unknown; nothing else may come or go.
        lost = isinstance(site.front.engine.log, DamagedLog)
        self._demand(
            there == set(self.image.expected) or (lost and there < set(self.image.expected)), f"exports {when}"
        )
        for name in sorted(there):
            expected = self.image.expected[name]
            blocks = _blocks(site, name)
            for number, found in enumerate(blocks):
                wanted = expected[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
                self._demand(found in (None, wanted), f"WRONG BYTES {when}: block {number} of {name}")
            if None in blocks:
                self._demand(self.outcome.live, f"{name} is refused {when} although no live byte was damaged")
                self._demand(not self.outcome.healed, f"block {blocks.index(None)} of {name} is refused {when}")

    def _go_on(self) -> None:
        """Drain, fold and start again: damage is never turned into good data, and what was healed stays."""
        site = self.member.site
        try:
            while site.drain():
                site.settle()
            while site.fold():
                site.settle()
        except StargateError as exc:
            self._demand(self.outcome.live and not self.outcome.healed, f"it cannot go on: {exc}")
            return
        self._read("after a fold")
        self.member.stop()
        if self._start_again():
            self._read("after a restart")

    def _start_again(self) -> bool:
        try:
            self.member.start()
        except StargateError as exc:
            self._demand(self.outcome.live and not self.outcome.healed, f"it does not start again: {exc}")
            self.outcome.refused = True
            return False
        return True

    def _check_peer(self) -> None:
        for name, expected in self.peer_expected.items():
            self._demand(self.peer.site.content(name) == expected, f"the other site changed: {name}")

    @staticmethod
    def _demand(good: bool, rule: str) -> None:
        if not good:
            raise Violation(rule)


def _blocks(site: Site, name: str) -> list[bytes | None]:
    """Block by block as a guest gets it; None: EIO."""
    assert site.front is not None
    export = site.front.exports.lookup(name)
    found: list[bytes | None] = []
    for offset in range(0, export.size_bytes, BLOCK_BYTES):
        try:
            found.append(b"".join(bytes(part) for part in export.read(offset, BLOCK_BYTES)))
        except StargateError:
            found.append(None)
    return found


def _healable(done: Damage, running: bool) -> bool:
    """Whether another copy of everything that was hit exists."""
    hits: dict[str, int] = {}
    for part in done.hit:
        hits[part.what] = hits.get(part.what, 0) + 1
    parts = {part.what: part for part in done.hit}
    return bool(parts) and all(
        part.healable or hits[what] < part.copies or (what == "catalog" and running) for what, part in parts.items()
    )


__all__ = ["Case", "Member", "Outcome", "run"]
