# SPDX-License-Identifier: Apache-2.0
"""What a site must hold, what it is found to hold, and the difference."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stargate.units import BLOCK_BYTES

if TYPE_CHECKING:
    from tests.engine.harness import Site


@dataclass(slots=True)
class Image:
    """A disk's size in bytes and its content by block; blocks that are not there are zeros.

    `either`: blocks of which nobody has seen yet what they hold, and what that would be in each of several candidates.
    """

    size: int
    blocks: dict[int, bytes] = field(default_factory=dict)
    _whole: bytes | None = None
    either: dict[int, dict[int, bytes]] = field(default_factory=dict)

    def copy(self, size: int = 0) -> Image:
        either = {block: dict(contents) for block, contents in self.either.items()}
        return Image(size or self.size, dict(self.blocks), None if size else self._whole, either)

    def write(self, offset: int, data: bytes) -> None:
        self._whole = None
        at = offset
        while at < offset + len(data):
            block, inside = divmod(at, BLOCK_BYTES)
            step = min(BLOCK_BYTES - inside, offset + len(data) - at)
            old = self.blocks.get(block, bytes(BLOCK_BYTES))
            new = data[at - offset : at - offset + step]
            self.blocks[block] = old[:inside] + new + old[inside + step :]
            if step == BLOCK_BYTES:
                self.either.pop(block, None)
            for candidate, content in self.either.get(block, {}).items():
                self.either[block][candidate] = content[:inside] + new + content[inside + step :]
            at += step

    def bytes(self, candidate: int | None = None) -> bytes:
        """All of it, as one candidate has it."""
        if self._whole is None:
            count = -(-self.size // BLOCK_BYTES)
            self._whole = b"".join(self.blocks.get(n, bytes(BLOCK_BYTES)) for n in range(count))[: self.size]
        if candidate is None or not self.either:
            return self._whole
        whole = bytearray(self._whole)
        for block, contents in self.either.items():
            if candidate in contents:
                start = block * BLOCK_BYTES
                whole[start : start + BLOCK_BYTES] = contents[candidate][: self.size - start]
        return bytes(whole)

    @property
    def candidates(self) -> list[int | None]:
        """Whose contents it tells apart; None is all others."""
        return [None, *sorted({candidate for contents in self.either.values() for candidate in contents})]

    @classmethod
    def holding(cls, data: bytes) -> Image:
        """The image of these bytes."""
        starts = range(0, len(data), BLOCK_BYTES)
        return cls(
            len(data), {at // BLOCK_BYTES: data[at : at + BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0") for at in starts}
        )

    def or_else(self, candidate: int, data: bytes) -> None:
        """A candidate has `data` where this image has something else."""
        for number, content in enumerate(_blocks(data)):
            if content != self.blocks[number]:
                self.either.setdefault(number, {})[candidate] = content


@dataclass(slots=True)
class Found:
    """What a site gives to read, as in `Model`: a disk as bytes, or with damage allowed as blocks, None if refused."""

    disks: dict[str, bytes | list[bytes | None]] = field(default_factory=dict)
    points: dict[str, dict[str, bytes | list[bytes | None]]] = field(default_factory=dict)

    @classmethod
    def of(cls, site: Site, *, damage: bool = False) -> Found:
        """Read everything that the front serves. Without `damage` raises what a reader would get."""
        assert site.front is not None
        state = site.front.engine.state
        read = site.blocks if damage else site.content
        points = {
            name: {m.disk: read(f"snapshot:{name}:{m.disk}") for m in snapshot.members}
            for name, snapshot in state.snapshots.items()
        }
        return cls({name: read(name) for name, disk in state.vdisks.items() if disk.role != "down"}, points)


@dataclass(slots=True)
class Model:
    """What must be there: disks by uuid, and snapshots' disks by export name.

    `gone` are snapshots received from another site that were deleted here; what is received has no place in the order
    of the log, so it is not among `points`.
    """

    disks: dict[str, Image] = field(default_factory=dict)
    points: dict[str, dict[str, Image]] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    end: int | None = field(default=None, compare=False)
    """Where the log ended with this in it; None: nobody looked."""

    def copy(self) -> Model:
        disks = {name: image.copy() for name, image in self.disks.items()}
        return Model(disks, dict(self.points), self.gone)

    def difference(self, site: Site) -> str:
        """Empty when the site holds exactly this."""
        return self.unlike(Found.of(site))

    def unlike(self, found: Found, *, received: Container[str] = (), candidate: int | None = None) -> str:
        """Empty when this was found, apart from the snapshots `received`, of which only that none is `gone` counts.

        `candidate`: whose contents are compared, where several are possible.
        """
        own = {name: members for name, members in found.points.items() if name not in received}
        if set(found.disks) != set(self.disks) or set(own) != set(self.points):
            return "other disks or snapshots"
        if back := self.gone & found.points.keys():
            return f"deleted snapshots are back: {sorted(back)}"
        for name, image in self.disks.items():
            if (what := compare(found.disks[name], image.bytes(candidate))) is not None:
                return f"disk {name} {what}"
        for snapshot, members in self.points.items():
            if set(own[snapshot]) != set(members):
                return f"snapshot {snapshot} has other disks"
            for disk, image in members.items():
                if (what := compare(own[snapshot][disk], image.bytes(candidate))) is not None:
                    return f"snapshot {snapshot} disk {disk} {what}"
        return ""


def _blocks(data: bytes) -> list[bytes]:
    return [data[at : at + BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0") for at in range(0, len(data), BLOCK_BYTES)]


def merged(fits: Sequence[tuple[Model, int | None]]) -> tuple[Model, list[int]]:
    """One model for all of `fits` (a model and whose contents of it), which have the same disks and snapshots, and the
    numbers of its candidates. The first one is what it holds by itself.
    """
    held = fits[0][0].copy()
    held.end = fits[0][0].end
    held.points = {name: dict(members) for name, members in held.points.items()}
    contents = [_contents(model, candidate) for model, candidate in fits]
    different = [each for n, each in enumerate(contents) if each not in contents[:n]]
    for (point, disk), data in different[0].items():
        image = Image.holding(data)
        for number, other in enumerate(different[1:], 1):
            image.or_else(number, other[point, disk])
        (held.points[point] if point else held.disks)[disk] = image
    return held, list(range(len(different)))


def _contents(model: Model, candidate: int | None) -> dict[tuple[str, str], bytes]:
    groups = {"": model.disks, **model.points}
    return {(point, disk): image.bytes(candidate) for point, disks in groups.items() for disk, image in disks.items()}


def compare(found: bytes | list[bytes | None], wanted: bytes) -> str | None:
    """None when equal; blocks that were refused are equal to all."""
    if found == wanted:
        return None
    if isinstance(found, list):
        blocks = [wanted[at : at + BLOCK_BYTES] for at in range(0, len(wanted), BLOCK_BYTES)]
        if len(found) != len(blocks):
            return f"has {len(found)} blocks, not {len(blocks)}"
        wrong = next((n for n, block in enumerate(found) if block is not None and block != blocks[n]), None)
        return None if wrong is None else f"block {wrong} holds {found[wrong]!r:.40}, not {blocks[wrong]!r:.40}"
    if len(found) != len(wanted):
        return f"has {len(found)} bytes, not {len(wanted)}"
    at = next(n for n in range(len(found)) if found[n] != wanted[n])
    return f"block {at // BLOCK_BYTES} (byte {at}) holds {found[at : at + 8]!r}, not {wanted[at : at + 8]!r}"
