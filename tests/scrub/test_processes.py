# SPDX-License-Identifier: Apache-2.0
"""Real processes: damage on the disk of one site is healed over TLS from the other; a damaged index is made anew."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

import pytest

from stargate.nbd.link import NbdRequestFailed
from stargate.peer.identity import create_identity
from stargate.units import KiB, MiB
from tests.support.engine_site import EngineSite, wait_for
from tests.support.loopback import loopback

pytestmark = pytest.mark.slow
SIZE = 2 * MiB
DATA = random.Random(5).randbytes(SIZE)


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineSite, EngineSite]]:
    folder = tmp_path_factory.mktemp("eng")
    sites = [EngineSite(folder / name, address=loopback(n), peer=True) for n, name in ((41, "a"), (42, "b"))]
    certificates = [create_identity(s.folder / "identity", s.folder.name).certificate_pem for s in sites]
    try:
        for own, other, certificate in zip(sites, sites[::-1], certificates[::-1], strict=True):
            own.start()
            own.engine.peer_set(
                other.site_id, other.folder.name, certificate, address=other.address, port=other.peer_port
            )
        yield sites[0], sites[1]
    finally:
        for site in sites:
            site.stop()


def replicate(source: EngineSite, target: EngineSite, snapshot: str) -> None:
    session = str(uuid.uuid4())
    target.engine.grant(session, source.site_id, snapshot, 1 << 40, 600)
    where = {"address": target.address, "port": target.peer_port, "site_id": target.site_id}
    source.engine.sync_start(session, snapshot, **where, session=session)
    wait_for(lambda: source.engine.sync_status(session)["state"] != "running", "the replication", 60)
    assert source.engine.sync_status(session)["state"] == "done"


def filled(site: EngineSite) -> str:
    disk = site.disk(SIZE)
    with site.open(disk) as client:
        client.write(0, DATA)
        client.flush()
    return disk


def rot(site: EngineSite) -> int:
    """Zero a page in the middle of every 64 KiB of all extent groups; how many."""
    pages = 0
    for path in sorted((site.folder / "stargate" / "egroups").glob("g-*")):
        raw = bytearray(path.read_bytes())
        for at in range(32 * KiB, len(raw) - 4096, 64 * KiB):
            raw[at : at + 4096] = bytes(4096)
            pages += 1
        path.write_bytes(raw)
    return pages


def test_both_sites_heal_each_other(pair: tuple[EngineSite, EngineSite]) -> None:
    a, b = pair
    disk = filled(a)
    snapshot = a.snapshot(disk)
    replicate(a, b, snapshot)
    for site, name in ((a, disk), (b, f"snapshot:{snapshot}:{disk}")):
        site.kill()
        pages = rot(site)
        site.start()
        with pytest.raises(NbdRequestFailed, match="error 5"):
            site.content(name)
        health = site.engine.scrub()
        assert (health["damaged"], health["healed"] >= pages // 2) == (0, True), health
        assert site.content(name) == DATA
        assert site.engine.usage()["scrub"]["last_pass_at"]


def test_a_damaged_index_is_made_anew_at_start(pair: tuple[EngineSite, EngineSite]) -> None:
    site, _ = pair
    disk = filled(site)
    site.snapshot(disk)
    wait_for(site.drained, "the drain")
    site.kill("store")
    path = site.folder / "stargate" / "index" / "data.mdb"
    path.write_bytes(bytes(8192) + path.read_bytes()[8192:])
    site.kill("front")
    site.start()
    assert site.content(disk) == DATA
    assert (site.folder / "stargate" / "aside" / "index.1").is_dir()
