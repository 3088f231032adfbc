# SPDX-License-Identifier: Apache-2.0
"""A snapshot whose deletion is ordered and not drained: the catalog still shows it, no peer is told so.

Otherwise a snapshot sent back to the site that has just deleted it would vanish after its sender was told that it had
arrived.
"""

from __future__ import annotations

import uuid
from random import Random

import pytest

from stargate.errors import Unavailable
from stargate.units import KiB
from tests.engine.harness import Site

DISK, POINT, PEER, SESSION = (str(uuid.UUID(int=number)) for number in range(1, 5))


def site_with_a_snapshot() -> Site:
    site = Site(Random(1))
    site.start()
    assert site.front is not None
    assert site.store is not None
    site.front.orders.do_vdisk_create(DISK, 64 * KiB, DISK, "active", None, None)
    site.front.orders.do_snapshot_create(POINT, [DISK], {}, "", None)
    site.drain()
    site.store.hub.commit({"op": "peer", "site_id": PEER, "name": "peer", "certificate": ""})
    site.store.grants.allow(SESSION, PEER, POINT, 1 << 30, 600.0)
    return site


def test_it_tells_a_peer_of_a_snapshot_that_is_here() -> None:
    site = site_with_a_snapshot()
    assert site.store is not None
    assert site.store.grants.grant(SESSION, PEER, POINT).published


def test_it_vouches_for_no_snapshot_whose_deletion_is_on_the_way() -> None:
    site = site_with_a_snapshot()
    assert site.front is not None
    assert site.store is not None
    grants = site.store.grants
    granted = grants.grant(SESSION, PEER, POINT)
    site.front.orders.do_snapshot_delete(POINT, None)
    with pytest.raises(Unavailable, match="being deleted"):
        grants.grant(SESSION, PEER, POINT)
    with pytest.raises(Unavailable, match="being deleted"):
        grants.publish(granted, [], {})
    site.drain()
    assert not grants.grant(SESSION, PEER, POINT).published


def test_it_has_the_deletion_drained_that_a_peer_ran_into() -> None:
    site = site_with_a_snapshot()
    assert site.front is not None
    assert site.store is not None
    site.front.orders.do_snapshot_delete(POINT, None)
    worker = site.store.worker
    assert worker._calm(worker._covered().position)
    with pytest.raises(Unavailable):
        site.store.grants.grant(SESSION, PEER, POINT)
    assert not worker._calm(worker._covered().position), "it does not wait for the log to fill up"
