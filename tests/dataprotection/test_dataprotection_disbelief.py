# SPDX-License-Identifier: Apache-2.0
"""A paired site that lies about generations: what it says is believed only as far as a history could lead to it."""

from __future__ import annotations

import copy
import uuid
from typing import Any

import pytest
from django.utils import timezone
from dp_kit import ACTOR, Queue, read, take, write

from dataprotection.models import VM, ProtectionDomain, Snapshot
from dataprotection.services import activation, gating, manifest, peers, phases, stale
from dataprotection.services.phases import GENERATION_LEAP_MAX
from prism.core.exceptions import Conflict, InvalidInput
from prism.core.models import Alert, Site
from replication.models import RemoteSite, Replication
from replication.rpc import client
from replication.rpc.messages import OfferSnapshot
from replication.rpc.registry import PeerCall
from tests.support.engine_site import EngineSite

HUGE = 2**63 - 1
NOT_BELIEVED = "activation_not_believed"


@pytest.fixture
def liar(site: Site, domain: ProtectionDomain) -> PeerCall:
    """A paired site that the domain was replicated to."""
    found = RemoteSite.objects.create(
        name="site2", site_uuid=uuid.uuid4(), certificate_pem="pinned", addresses=[], fingerprint="f"
    )
    now = timezone.now()
    times = dict.fromkeys(("snapshot_created_at", "start_at", "created_at"), now)
    Replication.objects.create(site=found, domain_uuid=domain.uuid, snapshot_uuid=uuid.uuid4(), manifest={}, **times)
    return PeerCall(found, "127.0.0.2")


def untouched(domain: ProtectionDomain, engine: EngineSite) -> bool:
    before = domain.mode_generation
    domain.refresh_from_db()
    disk = VM.objects.get().disks.get(index=0)
    write(engine, disk, b"on")
    return (domain.mode_generation, domain.generation_seen, domain.stale_state) == (before, 0, "none") and read(
        engine, disk
    ).startswith(b"on")


def announced(call: PeerCall, domain: ProtectionDomain, generation: int) -> dict[str, Any]:
    return peers.announce_active(call, peers.AnnounceActive(domain.uuid, generation))


@pytest.mark.parametrize("more", [GENERATION_LEAP_MAX + 1, HUGE - 1])
def test_it_serves_on_when_a_site_announces_a_huge_generation(
    domain: ProtectionDomain, engine: EngineSite, liar: PeerCall, more: int
) -> None:
    announced(liar, domain, domain.mode_generation + more)
    assert untouched(domain, engine)
    assert phases.next_generation(domain) == domain.mode_generation + 1
    assert "site2" in Alert.objects.get(kind=NOT_BELIEVED).message


def test_it_believes_what_a_history_could_lead_to(domain: ProtectionDomain, engine: EngineSite, liar: PeerCall) -> None:
    announced(liar, domain, domain.mode_generation + GENERATION_LEAP_MAX)
    domain.refresh_from_db()
    assert domain.stale_state == "active_elsewhere"
    assert not Alert.objects.filter(kind=NOT_BELIEVED).exists()


def test_it_serves_on_when_a_site_claims_what_it_never_had(
    domain: ProtectionDomain, engine: EngineSite, liar: PeerCall
) -> None:
    Replication.objects.all().delete()
    assert announced(liar, domain, domain.mode_generation + 1) == {"known": False}
    assert untouched(domain, engine)
    assert Alert.objects.filter(kind=NOT_BELIEVED).exists()


@pytest.mark.parametrize("generation", [HUGE, -1, "9", True, None, [1]])
def test_it_takes_an_impossible_answer_for_none(
    domain: ProtectionDomain,
    engine: EngineSite,
    liar: PeerCall,
    monkeypatch: pytest.MonkeyPatch,
    generation: object,
) -> None:
    answer = {"known": True, "mode": "active", "mode_generation": generation}
    monkeypatch.setattr(client, "call", lambda *_args, **_more: answer)
    stale.check_all()
    domain.refresh_from_db()
    assert (domain.stale_state, domain.generation_seen) == ("unconfirmed", 0)
    assert Alert.objects.filter(kind=NOT_BELIEVED).exists()


def test_it_opens_again_when_the_liar_is_unpaired(domain: ProtectionDomain, engine: EngineSite, liar: PeerCall) -> None:
    """A lie that a history could lead to closes the domain; the operator's way out."""
    announced(liar, domain, domain.mode_generation + 1)
    liar.site.certificate_pem = ""
    liar.site.save()
    assert not gating.peers_of(domain)
    stale.check_again()
    domain.refresh_from_db()
    assert domain.stale_state == "none"


def test_it_activates_nothing_with_a_huge_generation(
    domain: ProtectionDomain, queue: Queue, engine: EngineSite, liar: PeerCall
) -> None:
    snapshot = take(domain, queue)
    activation.deactivate(domain, actor=ACTOR)
    queue.run()
    domain.refresh_from_db()
    with pytest.raises(Conflict, match="No history"):
        peers.activate_domain(liar, peers.ActivateDomain(domain.uuid, snapshot.uuid, HUGE, []))
    domain.refresh_from_db()
    assert domain.phase == "INACTIVE"


def test_it_takes_no_snapshot_with_a_huge_generation(
    domain: ProtectionDomain, queue: Queue, engine: EngineSite, liar: PeerCall
) -> None:
    take(domain, queue)
    activation.deactivate(domain, actor=ACTOR)
    queue.run()
    raw = copy.deepcopy(Snapshot.objects.latest("created_at").manifest)
    raw["snapshot"]["uuid"] = str(uuid.uuid4())
    for generation, refusal in ((manifest.GENERATION_MAX, Conflict), (manifest.GENERATION_MAX + 1, InvalidInput)):
        raw["domain"]["mode_generation"] = generation
        offer = OfferSnapshot(uuid.uuid4(), raw, None, hidden_base=False, bytes=0)
        with pytest.raises(refusal):
            peers.offer_snapshot(liar, offer)
