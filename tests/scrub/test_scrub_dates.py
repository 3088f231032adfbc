# SPDX-License-Identifier: Apache-2.0
"""The dates of the scrub: what comes next, when a pass has ended, what a file of an older version says."""

from __future__ import annotations

import json
from dataclasses import asdict
from random import Random

import pytest
from crc32c import crc32c

from stargate.fs.memdisk import MemDisk
from stargate.scrub.checks import Found
from stargate.scrub.dates import MAGIC, Dates, parse
from stargate.scrub.scrubber import Scrubber
from tests.engine.harness import Site
from tests.sim.clock import VirtualClock


def test_a_pass_ends_although_new_parts_keep_coming() -> None:
    clock = VirtualClock()
    dates = Dates(MemDisk(), clock)
    names = ["log", "catalog"]
    dates.follow(names)
    dates.checked("log", {})
    clock.sleep(60)
    dates.follow([*names, "region:1"])
    assert dates.state.pass_ended_at == 0, "the catalog was not read yet"
    dates.checked("catalog", {})
    assert dates.state.pass_ended_at == clock.now(), "the region came later"
    clock.sleep(60)
    dates.follow([*names, "region:1", "region:2"])
    dates.checked("log", {})
    dates.checked("catalog", {})
    assert dates.state.pass_ended_at < clock.now(), "the next pass waits for the first region"


def test_what_is_asked_for_comes_first_and_what_went_is_not_waited_for() -> None:
    clock = VirtualClock()
    dates = Dates(MemDisk(), clock)
    dates.follow(["log", "region:1", "catalog"])
    for name in ("region:1", "log"):
        clock.sleep(1)
        dates.checked(name, {})
    dates.ask()
    assert dates.state.asked == ["catalog", "region:1", "log"]
    dates.follow(["log", "catalog", "region:2"])
    order = []
    while dates.state.asked:
        order.append(dates.oldest() or "")
        dates.checked(order[-1], {})
    assert order == ["catalog", "log"]
    assert dates.oldest() == "region:2"


def test_a_part_whose_check_always_fails_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of, stays unchecked, and is crossed off when it can be checked after all."""
    site = Site(Random(1))
    site.start_store()
    store, clock = site.store, VirtualClock()
    assert store is not None
    scrubber = Scrubber(site.disk, store.hub, store.extents, store.worker, site._table, list, clock, 0)

    def broken() -> Found:
        raise OSError("the disk does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(scrubber, "_log", broken)
        tried = set()
        for _ in range(6):
            clock.sleep(1)
            tried.add(scrubber.step())
        assert tried == {"index", "log", "catalog"}
        assert not scrubber._due(), "it is not tried again at once"
        health = scrubber.health()
        assert (health["damaged"], health["oldest_unchecked_seconds"]) == (1, 5.0)
        assert "cannot check log: OSError the disk does not answer" in health["findings"][0]
        scrubber.ask()
        assert [scrubber.step() for _ in range(3)].count("log") == 1
        assert scrubber.health()["asked_left"] == 0
        assert scrubber.run_pass()["damaged"] == 1
    scrubber.run_pass()
    assert scrubber.health()["damaged"] == 0


def test_dates_of_an_older_version_are_read() -> None:
    dates = Dates(MemDisk(), VirtualClock())
    dates.follow(["log"])
    dates.checked("log", {})
    body = {key: value for key, value in asdict(dates.state).items() if key != "asked"}
    text = json.dumps(body).encode()
    found = parse(f"{MAGIC} {crc32c(text):08x}\n".encode() + text)
    assert found is not None
    assert found.units == dates.state.units
