# SPDX-License-Identifier: Apache-2.0
"""Pairing over the real path: this process asks, another site's Cerebro process answers, and the other way round."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from replication_kit import ACTOR, Cerebro, MemoryEngine, free_port, make_site, until

from prism.core.exceptions import Conflict, InvalidInput
from prism.core.models import AuditRow
from replication.cerebro import health, registry
from replication.exceptions import PeerRefused, PeerUnreachable
from replication.local import identity
from replication.models import RemoteSite
from replication.rpc import client
from replication.services import remote_sites
from stargate.peer.identity import create_identity
from stargate.peer.pairing import new_code, pairing_key

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def code_of(site: Cerebro) -> str:
    """As `start_pairing` over there would leave it, without a process for it."""
    code = new_code()
    site.rows(
        "TRUNCATE replication_pairingcode; INSERT INTO replication_pairingcode"
        " (code_hash, created_at, expires_at, attempts, used_by_fingerprint)"
        f" VALUES ('{pairing_key(code).hex()}', now(), now() + interval '10 minutes', 0, '')"
    )
    return code


def pair(site: Cerebro, code: str, port: int = 0) -> RemoteSite:
    return remote_sites.pair(host="127.0.0.1", control_port=port or site.port, code=code, actor=ACTOR)


def test_it_pairs_both_sites_at_once(there: Cerebro, local: Any, engine: MemoryEngine) -> None:
    code = code_of(there)
    site = pair(there, code.lower().replace("-", " "))
    assert (site.name, str(site.site_uuid), site.addresses[0]["data_port"]) == (
        there.config.name,
        there.config.uuid,
        there.config.ports["peer"],
    )
    ((uuid, name, fingerprint, both, addresses),) = there.rows(
        "SELECT site_uuid, name, fingerprint, pairing_fingerprint, addresses FROM replication_remotesite"
    )
    assert (str(uuid), name, fingerprint) == (local.uuid, local.name, identity().fingerprint)
    assert both == site.pairing_fingerprint
    assert addresses[0]["control_port"] == local.ports["control"]
    assert engine.peers == {there.config.uuid: site.certificate_pem}
    assert remote_sites.test_connection(site, actor=ACTOR)["name"] == there.config.name
    assert health.check_peers(site.created_at) == {site.name: True}
    assert pair(there, code) == site  # the answer was lost: the same code, the same peer, the same row


def test_it_closes_a_code_after_three_wrong_ones(there: Cerebro) -> None:
    code = code_of(there)
    for _ in range(3):
        with pytest.raises(PeerRefused, match="wrong") as refused:
            pair(there, "0000-0000-0000-0000")
        assert refused.value.code == "wrong_pairing_code"
    with pytest.raises(PeerRefused, match="No pairing code is open"):
        pair(there, code)
    assert not RemoteSite.objects.exists()
    assert there.rows("SELECT * FROM replication_remotesite") == []
    assert there.rows("SELECT count(*) FROM core_auditrow WHERE outcome = 'refused' AND source = 'peer'") == [(4,)]


def test_it_refuses_a_code_that_is_over_or_no_code(there: Cerebro) -> None:
    code = code_of(there)
    there.rows("UPDATE replication_pairingcode SET expires_at = now()")
    with pytest.raises(PeerRefused, match="expired"):
        pair(there, code)
    with pytest.raises(InvalidInput) as refused:
        pair(there, "not a code")
    assert refused.value.field == "code"
    assert refused.value.message.startswith("A pairing code has")
    assert AuditRow.objects.filter(verb="remote_site.pair", outcome="refused").count() == 2


def test_it_lets_one_peer_use_a_code(there: Cerebro, settings: Any, tmp_path: Path) -> None:
    code = code_of(there)
    pair(there, code)
    create_identity(tmp_path / "identity", "somebody else")
    settings.LAYOUT = type(settings.LAYOUT)(tmp_path)
    with pytest.raises(PeerRefused, match="was used"):
        pair(there, code)


def test_it_notices_a_relay_with_a_certificate_of_its_own(there: Cerebro, tmp_path: Path) -> None:
    code = code_of(there)
    with relay(tmp_path, there.port) as port, pytest.raises(PeerRefused, match="somebody between"):
        pair(there, code, port)
    assert there.rows("SELECT * FROM replication_remotesite") == []
    assert not RemoteSite.objects.exists()


def test_it_does_not_talk_to_another_certificate(there: Cerebro, tmp_path: Path) -> None:
    site = pair(there, code_of(there))
    with relay(tmp_path, there.port) as port:
        site.addresses = [{**site.addresses[0], "control_port": port}]
        with pytest.raises(PeerRefused) as refused:
            remote_sites.test_connection(site, actor=ACTOR)
    assert refused.value.code == "wrong_certificate"


def test_it_refuses_a_peer_that_is_not_paired(there: Cerebro, tmp_path: Path) -> None:
    stranger = client.connect({"host": "127.0.0.1", "control_port": there.port}, open_context(), 10)
    with pytest.raises(PeerRefused) as refused:
        client.exchange(stranger, "ping", b"{}", "site2")
    stranger.close()
    assert (refused.value.code, "not paired" in refused.value.message) == ("not_paired", True)
    unknown = make_site(tmp_path, "unknown", there.port)
    with pytest.raises(PeerRefused):
        remote_sites.test_connection(unknown, actor=ACTOR)


def test_it_unpairs_both_sites(there: Cerebro, engine: MemoryEngine) -> None:
    site = pair(there, code_of(there))
    remote_sites.unpair(site, actor=ACTOR)
    assert (site.is_paired, site.status, engine.peers) == (False, "NOT_PAIRED", {})
    assert there.rows("SELECT certificate_pem, status FROM replication_remotesite") == [("", "NOT_PAIRED")]
    with pytest.raises(PeerRefused, match="not paired"):
        remote_sites.test_connection(site, actor=ACTOR)
    assert pair(there, code_of(there)).pk == site.pk


def test_it_refuses_a_site_that_unpaired_meanwhile(there: Cerebro) -> None:
    site = pair(there, code_of(there))
    there.rows("DELETE FROM replication_remotesite")
    with pytest.raises(PeerRefused, match="not paired"):
        remote_sites.test_connection(site, actor=ACTOR)


def test_it_answers_hostile_requests_with_the_error_shape(there: Cerebro, tmp_path: Path) -> None:
    pair(there, code_of(there))
    site = RemoteSite.objects.get()
    for name, body, code in [
        ("ping", b"[1]", "bad_request"),
        ("ping", b"{" * 5000, "bad_request"),
        ("pair", b'{"site_uuid": 7}', "bad_request"),
        ("no_such", b"{}", "unknown_call"),
        ("ping", b" " * (client.BODY_BYTES_MAX + 1), "too_large"),
    ]:
        connection = client.connect(site.addresses[0], client._pinned_context(site), 10)
        with pytest.raises(PeerRefused) as refused:
            client.exchange(connection, name, body, "site2")
        connection.close()
        assert refused.value.code == code


def test_it_removes_a_site_that_nothing_needs(there: Cerebro, monkeypatch: pytest.MonkeyPatch) -> None:
    site = pair(there, code_of(there))
    monkeypatch.setattr(registry, "site_uses", {"test": lambda _site: ["The schedule of payroll names it."]})
    with pytest.raises(Conflict, match="payroll"):
        remote_sites.remove(site, actor=ACTOR)
    monkeypatch.setattr(registry, "site_uses", {})
    remote_sites.remove(site, actor=ACTOR)
    assert not RemoteSite.objects.exists()
    assert there.rows("SELECT certificate_pem FROM replication_remotesite") == [("",)]


def test_it_says_when_nothing_answers(local: Any) -> None:
    with pytest.raises(PeerUnreachable, match="Nothing answers"):
        remote_sites.pair(host="127.0.0.1", control_port=free_port(), code="0000-0000-0000-0000", actor=ACTOR)


def test_it_shows_its_diagnostics_without_secrets(there: Cerebro) -> None:
    pair(there, code_of(there))
    led = "SELECT term FROM replication_leaderstate WHERE holder <> ''"
    until(lambda: there.rows(led))
    ((term,),) = there.rows(led)
    connection = http.client.HTTPSConnection("127.0.0.1", there.port, context=open_context(), timeout=20)
    connection.request("GET", "/")
    response = connection.getresponse()
    page = response.read().decode()
    connection.close()
    assert "Cerebro of site2" in page
    assert f"term {term}," in page
    assert "site1" in page
    assert "BEGIN" not in page
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_it_pairs_the_sites_of_one_machine_once(there: Cerebro, local: Any, settings: Any, monkeypatch: Any) -> None:
    from django.core.management import call_command

    settings.PRISM_DATA = settings.LAYOUT.data
    (settings.PRISM_DATA.parent / "site2").symlink_to(there.layout.data)
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.setenv(name, there.env[name])
    monkeypatch.setattr("replication.management.commands.pair_local.FOREIGN", ())
    call_command("pair_local")
    site = RemoteSite.objects.get()
    call_command("pair_local")
    assert RemoteSite.objects.get().updated_at == site.updated_at
    assert there.rows("SELECT count(*) FROM core_auditrow WHERE verb = 'remote_site.pair'") == [(1,)]


def open_context() -> ssl.SSLContext:
    """TLS that trusts anybody and shows nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class relay:
    """Somebody in between: ends the TLS with a certificate of his own and opens another one to the real site."""

    def __init__(self, folder: Path, target: int) -> None:
        own = create_identity(folder / "relay", "in between")
        self.server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_tls.load_cert_chain(own.certificate_path, own.key_path)
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> int:
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return int(self.listener.getsockname()[1])

    def __exit__(self, *_error: Any) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)

    def _serve(self) -> None:
        try:
            raw, _ = self.listener.accept()
            near = self.server_tls.wrap_socket(raw, server_side=True)
        except OSError:
            return
        far = open_context().wrap_socket(socket.create_connection(("127.0.0.1", self.target)))
        back = threading.Thread(target=self._copy, args=(far, near), daemon=True)
        back.start()
        self._copy(near, far)
        far.shutdown(socket.SHUT_RDWR)  # wakes the other direction; closing would not
        back.join(10)
        far.close()
        near.close()

    @staticmethod
    def _copy(source: ssl.SSLSocket, target: ssl.SSLSocket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            return
