# SPDX-License-Identifier: Apache-2.0
"""A commit of the store of which one disk call fails: what is in the file is what the store knows, or it takes nothing
more. A store that went on behind its file would use a number twice, and a front that reads the file would be sent away
by it for ever.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from random import Random

import pytest

from stargate.errors import LogFrozen, NoSpace
from stargate.front.recovery import load_state
from tests.engine.harness import Site


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_store_that_is_behind_its_catalog_takes_nothing_more(code: int) -> None:
    behind, call, met = 0, 0, True
    while met:
        call += 1
        site = Site(Random(1))
        site.start()
        assert site.store is not None
        hub = site.store.hub
        site.disk.fail_at, site.disk.error = call, code
        with suppress(LogFrozen, NoSpace, OSError):
            hub.commit({"op": "sweep", "sweep": 1})
        met, site.disk.fail_at = site.disk.fail_at == 0, 0
        if load_state(site.disk).n == hub.state.n:
            continue
        behind += 1
        with pytest.raises(LogFrozen):
            hub.commit({"op": "sweep", "sweep": 2})
        site.kill_store()
        site.start_store()
        assert site.store.hub.commit({"op": "sweep", "sweep": 3}) == load_state(site.disk).n
        site.kill_front()
        site.start_front()
        site.connect()
    assert call > 5, "a commit makes several calls"
    assert behind > 1, "the sync of the frame, and reading the owner's mark behind it"
