# SPDX-License-Identifier: Apache-2.0
"""What must hold: LAW 4 and L1-L6 as far as bytes, snapshots and other sites can show them.

Everything that a front serves is read and compared with the models: a site holds one state out of those that may have
survived, over all disks and snapshots at once; what another site was told has arrived is there, equal in roots and
bytes; what has not arrived whole is not there at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stargate.extents import nodes
from stargate.extents.format import Kind
from stargate.extents.tree import reachable
from stargate.oplog.damage import DamagedLog
from stargate.oplog.note import parse_note
from tests.engine.model import Found, Model, compare
from tests.sim.guests import Violation
from tests.sim.site import SimSite

if TYPE_CHECKING:
    from tests.sim.world import Transfer, World


Fit = tuple[Model, int | None]


def after_power_cut(world: World, site: SimSite) -> None:
    """A prefix of what was ordered that holds everything durable (D1, D2).

    Where its log rotted: everything that what the cut left proves to have been durable. The last batches have nothing
    behind them but the note, which is never synced; without it they look torn (docs/limits.md).
    """
    states = site.guests.states
    if site.log_rotten and not _damaged(site) and site.front is not None:
        states = _after(site, states, _proven(site))
    _settle_on(world, site, states)


def _proven(site: SimSite) -> int:
    """The position of the log that a durable catalog or a sound note says to have been durable."""
    assert site.front is not None
    drained = 0 if site.catalog_rotten else site.drained
    return max(drained, parse_note(site.note, site.front.engine.log.log_id))


def after_kill(world: World, site: SimSite) -> None:
    """Everything that was accepted: the page cache is still there. Where its log rotted, what was durable of it."""
    states = site.guests.states
    _settle_on(world, site, states if site.log_rotten else states[-1:])


def running(world: World, site: SimSite) -> None:
    """While it runs a site gives what was accepted last. What it shows decides between candidates."""
    if site.front is not None and not site.guests.unsure:
        fits = _match(world, site, site.guests.states[-1:])
        if not _damaged(site):
            site.guests.candidates = [candidate for _, candidate in fits]


def _settle_on(world: World, site: SimSite, states: Sequence[Model]) -> None:
    """One of `states` is what the site holds. Where damage hides what tells several apart, all of them stay possible
    until a read shows it: after healing, in a snapshot or in a clone.
    """
    site.guests.unsure = False
    fits = _match(world, site, states)
    if not _damaged(site):  # such a one only reads, and made nothing durable
        site.guests.settle_among(fits)


def _damaged(site: SimSite) -> bool:
    """Whether the front met damage in its log at its start."""
    return site.front is not None and site.front.engine.damage is not None


def _match(world: World, site: SimSite, states: Sequence[Model]) -> list[Fit]:
    """Those of `states` that the site may hold, the newest first, each with the candidate whose contents it shows.
    Raises Violation when it holds none of them.
    """
    guests = site.guests
    found = Found.of(site, damage=world.rotten)
    _received(world, site, found)
    if _damaged(site):  # what came after the damage is not shown
        states = _before_damage(site, states)
    fits: list[Fit] = []
    wrong = []
    for state in reversed(states):
        for candidate in guests.candidates:
            difference = state.unlike(found, received=guests.received, candidate=candidate)
            if not difference:
                fits.append((state, candidate))
                if not world.rotten:
                    return fits  # all of it was read
            wrong.append(difference)
    if fits:
        return fits
    raise Violation(f"{site.address} holds no state that it may: {wrong[:2]} (of {len(wrong)})")


def _before_damage(site: SimSite, states: Sequence[Model]) -> list[Model]:
    """What a front that met damage may show: the state that a sound catalog or the rest of the chain gives, or a later
    one. A log whose superblock is lost gives nothing: before its first drain it takes all disks with it."""
    assert site.front is not None
    log = site.front.engine.log
    drained = 0 if site.catalog_rotten else site.drained
    kept = max(drained, log.appended.position) if isinstance(log, DamagedLog) else drained
    return _after(site, states, kept)


def _after(site: SimSite, states: Sequence[Model], kept: int) -> list[Model]:
    """The states of which all up to this position of the log may be seen, and maybe more."""
    order = [*site.guests.history, *states]
    floor = (n for n, state in enumerate(order) if state.end is not None and state.end <= kept)
    return order[max(floor, default=0) :]


def _received(world: World, site: SimSite, found: Found) -> None:
    """A snapshot from elsewhere is whole or invisible (D5), and stays."""
    for name, images in site.guests.received.items():
        members = found.points.get(name)
        if members is None:
            continue
        if set(members) != set(images):
            raise Violation(f"{site.address} shows snapshot {name} with other disks")
        for disk, image in images.items():
            ways = [compare(members[disk], image.bytes(candidate)) for candidate in image.candidates]
            if (what := None if None in ways else ways[0]) is not None:
                raise Violation(f"{site.address}: received snapshot {name} disk {disk} {what}")
    if site.store is None or world.rotten:
        return
    gone = {name for state in site.guests.states for name in state.gone}
    if missing := site.must - site.store.hub.state.snapshots.keys() - gone:
        raise Violation(f"{site.address} lost received snapshots {sorted(missing)}")


def arrived(world: World, transfer: Transfer) -> None:
    """A sender says done: the receiver has it, with equal roots."""
    source, target = transfer.source, transfer.target
    target.must.add(transfer.snapshot)
    if source.store is None or target.store is None or world.rotten:
        return
    theirs = target.store.hub.state
    if transfer.snapshot not in theirs.snapshots:
        raise Violation(f"{target.address} said that it has {transfer.snapshot}")
    ours = source.store.hub.state
    if transfer.snapshot not in ours.snapshots:
        return  # deleted here since
    roots = [
        {m.disk: state.epochs[m.epoch].root for m in state.snapshots[transfer.snapshot].members}
        for state in (ours, theirs)
    ]
    if roots[0] != roots[1]:
        raise Violation(f"snapshot {transfer.snapshot} has other roots at {target.address}")


def bounded(world: World, site: SimSite) -> None:
    """The undrained log never exceeds its cap (L6)."""
    if site.front is not None and site.front.engine.log.used_bytes > site.front.engine.log.cap_bytes:
        raise Violation(f"the log of {site.address} exceeds its cap")


def complete(site: SimSite) -> None:
    """A node in the index has all of its children there: presence means a complete subtree."""
    assert site.store is not None
    extents = site.store.extents
    shown = {digest: location.kind for digest, location in extents.index.items()}
    for digest, kind in shown.items():
        if kind != Kind.CHUNK and set(nodes.children(kind, extents.read_node(digest))) - shown.keys():
            raise Violation(f"{site.address} shows a node without all that is below it")


def swept(site: SimSite) -> None:
    """After all was folded and swept nothing is stored that no version needs."""
    assert site.store is not None
    hub, extents = site.store.hub, site.store.extents
    epochs = list(hub.state.epochs.values())
    needed = reachable(extents, [bytes.fromhex(e.root) for e in epochs if e.root is not None])
    for epoch in epochs:
        for ref in epoch.batches:
            needed |= {digest for _, digest in site._table(ref).chunks}
    left = [digest for digest, _ in extents.index.items() if digest not in needed]
    if left:
        raise Violation(f"{site.address} keeps {len(left)} extents that nothing needs")
