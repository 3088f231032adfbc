# SPDX-License-Identifier: Apache-2.0
"""Removing extent groups whose extents are all gone (docs/design/0008).

What is removed holds nothing but its header, holes and zeros, so no mistake of the index can cost a byte. The group
with the highest number stays, for numbers are never used again: a place of a group is written once in the life of a
store. The figure of returned bytes and the list of what is being removed change in one transaction, before the first
file goes: whoever dies in between leaves the rest to the next process.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stargate.errors import DamagedData
from stargate.extents.egroups import HEAD_BYTES
from stargate.extents.index import Change

if TYPE_CHECKING:
    from stargate.extents.store import ExtentStore

log = logging.getLogger(__name__)

_RETIRING = "retiring"
_AT_ONCE = 1024


def retire(store: ExtentStore) -> int:
    """Remove what is empty and nobody else's; the number of files. Raises NoSpace, StoreFrozen with nothing lost."""
    try:
        candidates = [number for number in store.files.numbers()[:-1] if _is_empty(store, number)]
        with store.lock:
            return _remove(store, _unfinished(store)) + _begin(store, candidates[:_AT_ONCE])
    except OSError as exc:
        log.warning("empty extent groups stay for now: %s", exc)
        return 0


def _is_empty(store: ExtentStore, egroup: int) -> bool:
    try:
        return store.files.is_empty(egroup)
    except (DamagedData, OSError):
        return False


def _begin(store: ExtentStore, candidates: Sequence[int]) -> int:
    busy = {item.egroup for item in store.index.freed()} | {location.egroup for location in store.waiting()}
    done = [number for number in candidates if number not in busy and store.is_done_with(number)]
    mine = [number for number in done if store.files.claim(number) is not None and _is_empty(store, number)]
    if not mine:
        return 0
    holes = sum(store.files.file(number).size() - HEAD_BYTES for number in mine)
    left = max(0, store.returned_bytes() - holes)
    numbers = struct.pack(f"<{len(mine)}I", *mine)
    store.commit_index(Change(meta=(("returned_bytes", left.to_bytes(8, "little")), (_RETIRING, numbers))))
    return _remove(store, mine)


def _unfinished(store: ExtentStore) -> list[int]:
    """What an earlier process began to remove and is still there; the index may have rotted, so all is looked at."""
    noted = store.index.meta(_RETIRING) or b""
    present = store.files.numbers()[:-1]
    listed = {number for (number,) in struct.iter_unpack("<I", noted[: len(noted) & -4])}
    return [number for number in present if number in listed and _is_empty(store, number)]


def _remove(store: ExtentStore, numbers: Sequence[int]) -> int:
    if numbers:
        store.files.remove(numbers)
        store.forget_egroups(numbers)
        log.info("removed %d empty extent groups", len(numbers))
    if store.index.meta(_RETIRING):
        store.commit_index(Change(meta=((_RETIRING, b""),)))
    return len(numbers)
