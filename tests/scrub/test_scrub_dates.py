# SPDX-License-Identifier: Apache-2.0
"""The dates of the scrub: what comes next, when a pass has ended, what a file of an older version says."""

from __future__ import annotations

import json
from dataclasses import asdict

from crc32c import crc32c

from stargate.fs.memdisk import MemDisk
from stargate.scrub.dates import MAGIC, Dates, parse
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


def test_dates_of_an_older_version_are_read() -> None:
    dates = Dates(MemDisk(), VirtualClock())
    dates.follow(["log"])
    dates.checked("log", {})
    body = {key: value for key, value in asdict(dates.state).items() if key != "asked"}
    text = json.dumps(body).encode()
    found = parse(f"{MAGIC} {crc32c(text):08x}\n".encode() + text)
    assert found is not None
    assert found.units == dates.state.units
