# SPDX-License-Identifier: Apache-2.0
"""The address of a remote site leads to another site, never to this machine's own services or its host's."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from replication_kit import ACTOR

from prism.core.exceptions import InvalidInput
from prism.core.models import AuditRow
from replication.exceptions import PeerUnreachable
from replication.rpc import reach
from replication.services import remote_sites
from stargate.peer.pairing import new_code

ROUTABLE = "192.168.4.20"
HOSTILE = (
    "127.0.0.1",
    "127.8.8.8",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "fe80::1",
    "fe80::1%eth0",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "240.0.0.1",
)
SPELLED = ("127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "0", "localhost", "2852039166")
"""What a resolver takes for such an address although it is none in writing."""


@pytest.fixture
def routable(local: Any, settings: Any) -> None:
    """This site listens for other machines."""
    settings.SITE_CONFIG = dataclasses.replace(local, listen=ROUTABLE)


@pytest.fixture
def victim() -> Iterator[socket.socket]:
    """A service of this machine that nobody may reach through us."""
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        sock.setblocking(False)
        yield sock


@pytest.mark.parametrize("host", HOSTILE)
def test_it_refuses_addresses_of_this_machine_and_its_host(host: str) -> None:
    assert reach.refusal(host, own=ROUTABLE)


@pytest.mark.parametrize("host", ["10.0.0.7", "192.168.4.21", "172.20.1.1", "fd00::7", "2a01:4f8::1", "dr.example.org"])
def test_it_takes_addresses_where_sites_are(host: str) -> None:
    assert reach.refusal(host, own=ROUTABLE) == ""


def test_two_sites_of_one_machine_find_each_other_there() -> None:
    assert reach.refusal("127.0.0.2", own="127.0.0.1") == ""
    assert reach.refusal("169.254.169.254", own="127.0.0.1")


@pytest.mark.parametrize("host", SPELLED)
def test_it_judges_what_a_name_leads_to(host: str) -> None:
    with pytest.raises(PeerUnreachable, match=r"no address of another site|not known"):
        reach.resolve(host, 9441, own=ROUTABLE)


@pytest.mark.django_db
@pytest.mark.usefixtures("routable")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "::1"])
def test_pairing_connects_to_nothing_of_this_machine(host: str, victim: socket.socket) -> None:
    with pytest.raises((InvalidInput, PeerUnreachable), match=r"no address of another site|not an IP address"):
        remote_sites.pair(host=host, control_port=victim.getsockname()[1], code=new_code(), actor=ACTOR)
    with pytest.raises(BlockingIOError):
        victim.accept()
    assert AuditRow.objects.filter(verb="remote_site.pair").exists()


@pytest.mark.django_db
@pytest.mark.usefixtures("routable")
def test_a_name_server_that_changes_its_mind_gains_nothing(
    victim: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: good when it is judged, this machine when it is connected to."""
    port = victim.getsockname()[1]
    answers = iter(["198.51.100.9", "127.0.0.1", "127.0.0.1"])
    tried: list[str] = []

    def resolver(*args: Any, **more: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    def dial(address: tuple[str, int], *args: Any) -> socket.socket:
        tried.append(address[0])
        raise OSError("no route")

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(socket, "create_connection", dial)
    with pytest.raises(PeerUnreachable, match="Nothing answers"):
        remote_sites.pair(host="rebind.example.org", control_port=port, code=new_code(), actor=ACTOR)
    assert tried == ["198.51.100.9"]
