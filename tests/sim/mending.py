# SPDX-License-Identifier: Apache-2.0
"""Scrub and healing between simulated sites: over the simulated wire, from a peer that may lie."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from stargate.peer.client import PeerClient, Target
from stargate.peer.items import Fetch, Items
from stargate.peer.readback import ReadBack
from stargate.scrub.local import is_sound
from stargate.scrub.places import named
from stargate.scrub.scrubber import Scrubber
from stargate.store.grants import shared_roots
from stargate.store.healing import PeerSource
from tests.sim.guests import Violation
from tests.sim.mangle import SiteTransport

if TYPE_CHECKING:
    from tests.sim.site import SimSite

ROUNDS = 4
"""Passes of both sites in turn: what one of them healed may be what the other needs to be asked for what lies below."""


class WireSource(PeerSource):
    """The product's source of copies, connected over the simulated network."""

    def __init__(self, site: SimSite, target: Target) -> None:
        assert site.store is not None
        assert site.outgoing is not None
        super().__init__(site.outgoing, site.store.hub, target)
        self._site = site

    def _connect(self) -> PeerClient:
        site, outgoing = self._site, self._outgoing
        transport = SiteTransport(site._transport, site.network, site.streams)
        return PeerClient.connect(self._target, transport, outgoing.peers, site.site_id, str(uuid.uuid4()))


class LyingReadBack(ReadBack):
    """Gives some answers with a flipped bit in good frames, as a rotten or hostile site would."""

    def __init__(self, site: SimSite) -> None:
        assert site.store is not None
        super().__init__(site.store.extents, site.store.grants.shares)
        self._site = site

    def fetch(self, site_id: str, wanted: Fetch) -> Items:
        items = list(super().fetch(site_id, wanted).items)
        if items and self._site.lies:
            self._site.lies -= 1
            spoilt = bytearray(items[0].payload)
            spoilt[len(spoilt) // 2] ^= 1
            items[0] = items[0]._replace(payload=bytes(spoilt))
        return Items(items)


def scrubber(site: SimSite) -> Scrubber:
    store = site.store
    assert store is not None

    def sources() -> list[PeerSource]:
        peers = [p for p in store.hub.state.peers.values() if shared_roots(store.hub.state, p.site_id)]
        return [WireSource(site, Target(p.address, p.port, p.site_id)) for p in peers]

    made = Scrubber(site.disk, store.hub, store.extents, store.worker, site._table, sources, site.clock, 0)
    store.worker.on_damage = made.healer.ask
    return made


def work(site: SimSite, *, whole: bool = False, sound: bool = False) -> None:
    """What the scrub's and the healer's threads do: readers' requests, then one part, or (`whole`) all of them.

    `sound`: nothing can have rotted, so nothing may be found.
    """
    scrub = site.scrubber
    assert scrub is not None
    before = set(scrub.dates.state.damaged)
    scrub.healer.turn()
    if whole:
        scrub.run_pass()
    else:
        scrub.step()
    fresh = scrub.dates.state.damaged.keys() - before
    if sound and fresh and not site.disk.excused and scrub is site.scrubber:
        raise Violation(f"the scrub of {site.address} finds damage where there is none: {sorted(fresh)}")


def healed(one: SimSite, other: SimSite) -> None:
    """After passes of both: of the trees that both know to share, what one has the other has too."""
    assert one.store is not None
    assert other.store is not None
    stores = (one.store, other.store)
    roots = shared_roots(stores[0].hub.state, other.site_id) & shared_roots(stores[1].hub.state, one.site_id)
    names = set().union(*(named(store.extents, roots) for store in stores))
    for digest in sorted(names):
        sound = [is_sound(store.extents, digest) for store in stores]
        if sound[0] != sound[1]:
            raise Violation(f"{(one, other)[sound[0]].address} does not heal what the other site has: {digest.hex()}")
