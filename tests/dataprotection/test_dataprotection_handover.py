# SPDX-License-Identifier: Apache-2.0
"""Activate, deactivate, what a peer may order, and who wins a race."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from dp_kit import ACTOR, Queue, last_task, read, take, write

from dataprotection.models import VM, DomainTransition, ProtectionDomain, Schedule, Snapshot, VirtualDisk
from dataprotection.services import activation, domains, manifest, migrate, peers, phases, protection, schedules, stale
from dataprotection.services.schedules import ScheduleSpec
from prism.core.exceptions import Conflict, IllegalTransition, InvalidInput, NotFound
from prism.core.models import Alert, Site, Task
from replication.exceptions import PeerRefused, PeerUnreachable
from replication.models import RemoteSite, Replication
from replication.rpc import client
from replication.rpc.messages import OfferSnapshot
from replication.rpc.registry import PeerCall
from tests.support.engine_site import EngineSite


@pytest.fixture
def peer(site: Site) -> PeerCall:
    found = RemoteSite.objects.create(
        name="site2", site_uuid=uuid.uuid4(), certificate_pem="pinned", addresses=[], fingerprint="f"
    )
    return PeerCall(found, "127.0.0.2")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the other site says, per call: a dict, or an exception. Only failures and races are tested this way."""
    found: dict[str, Any] = {"check_migrate": {"obstacles": []}, "domain_state": {"known": True, "mode": "inactive"}}

    def call(_site: RemoteSite, name: str, _payload: object, timeout: float = 10.0) -> dict[str, Any]:
        answer = found.get(name, {})
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    monkeypatch.setattr(client, "call", call)
    return found


def role(engine: EngineSite, key: object) -> str:
    return str(engine.engine.vdisk(str(key))["role"])


def deactivated(domain: ProtectionDomain, queue: Queue) -> Snapshot:
    activation.deactivate(domain, actor=ACTOR)
    queue.run()
    domain.refresh_from_db()
    assert domain.phase == "INACTIVE", last_task().error
    return Snapshot.objects.get(kind="deactivate")


def test_it_deactivates_and_activates_again(domain: ProtectionDomain, queue: Queue, engine: EngineSite) -> None:
    disk = VM.objects.get().disks.get(index=0)
    key = disk.pk
    write(engine, disk, b"kept")
    schedules.add(domain, ScheduleSpec("HOURLY", 2, local_keep=7), actor=ACTOR)
    kept = deactivated(domain, queue)
    assert kept.expires_at is None
    assert not VM.objects.exists()
    assert not VirtualDisk.objects.exists()
    assert role(engine, key) == "down"
    activation.activate(domain, actor=ACTOR)
    queue.sent = queue.sent * 2
    queue.run()
    domain.refresh_from_db()
    assert (domain.phase, domain.mode_generation) == ("ACTIVE", 2), last_task().error
    back = VM.objects.get().disks.get(pk=key)
    assert read(engine, back) == b"kept"
    assert VM.objects.get().power_state == "off"
    assert domain.groups.get().name == "app"
    assert Schedule.objects.get().local_keep == 7
    assert domain.entities.count() == 2


def test_it_activates_by_a_peer_once_and_answers_the_same(
    domain: ProtectionDomain, queue: Queue, engine: EngineSite, peer: PeerCall
) -> None:
    key = VM.objects.get().disks.get(index=0).pk
    kept = deactivated(domain, queue)
    order = peers.ActivateDomain(domain.uuid, kept.uuid, 5, [])
    assert peers.activate_domain(peer, order) == {"mode": "active", "mode_generation": 5}
    write(engine, VM.objects.get().disks.get(pk=key), b"written since")
    assert peers.activate_domain(peer, order)["mode_generation"] == 5
    assert read(engine, VM.objects.get().disks.get(pk=key)) == b"written since"
    with pytest.raises(IllegalTransition):
        peers.activate_domain(peer, peers.ActivateDomain(domain.uuid, kept.uuid, 6, []))


def test_it_refuses_a_peer_an_old_generation_and_an_unknown_snapshot(
    domain: ProtectionDomain, queue: Queue, peer: PeerCall
) -> None:
    kept = deactivated(domain, queue)
    with pytest.raises(Conflict, match="newer activation"):
        peers.activate_domain(peer, peers.ActivateDomain(domain.uuid, kept.uuid, 1, []))
    with pytest.raises(NotFound):
        peers.activate_domain(peer, peers.ActivateDomain(domain.uuid, uuid.uuid4(), 9, []))


def test_it_names_the_obstacles_of_a_migration(domain: ProtectionDomain, queue: Queue, peer: PeerCall) -> None:
    raw = take(domain, queue).manifest
    texts = peers.check_migrate(peer, peers.CheckMigrate(raw))["obstacles"]
    assert any("active here already" in text for text in texts)
    assert any("vm named vm1" in text for text in texts)
    huge = {**raw, "entities": [{**raw["entities"][0], "uuid": str(uuid.uuid4())}]}
    huge["entities"][0]["disks"] = [
        {**raw["entities"][0]["disks"][0], "uuid": str(uuid.uuid4()), "size_bytes": 1 << 45}
    ]
    texts = peers.check_migrate(peer, peers.CheckMigrate(huge))["obstacles"]
    assert any("not enough free space" in text for text in texts)


def test_it_refuses_to_receive_a_domain_that_is_active_here(
    domain: ProtectionDomain, queue: Queue, peer: PeerCall
) -> None:
    raw = take(domain, queue).manifest
    raw = {**raw, "snapshot": {**raw["snapshot"], "uuid": str(uuid.uuid4())}}
    with pytest.raises(Conflict, match="active on this site"):
        peers.offer_snapshot(peer, OfferSnapshot(uuid.uuid4(), raw, None, False, 1))
    assert not Replication.objects.exists()


@pytest.mark.parametrize("spoil", ["format", "domain", "entities", "name", "size", "mac"])
def test_it_refuses_a_hostile_manifest(domain: ProtectionDomain, queue: Queue, spoil: str) -> None:
    raw = take(domain, queue).manifest
    vm = next(entity for entity in raw["entities"] if entity["type"] == "vm")
    changes: dict[str, Callable[[], object]] = {
        "format": lambda: raw.update(format=99),
        "domain": lambda: raw.update(domain=[]),
        "entities": lambda: raw.update(entities="x"),
        "name": lambda: vm.update(name="../../etc"),
        "size": lambda: vm["disks"][0].update(size_bytes=-1),
        "mac": lambda: vm["nics"][0].update(mac="x"),
    }
    changes[spoil]()
    with pytest.raises(InvalidInput, match="not a snapshot manifest"):
        manifest.read(raw)


def test_it_serves_again_when_the_peer_refuses_the_hand_over(
    domain: ProtectionDomain, queue: Queue, engine: EngineSite, peer: PeerCall, answers: dict[str, Any]
) -> None:
    answers["activate_domain"] = PeerRefused("no", "No.")
    _ready_to_hand_over(domain, peer, queue)
    domain.refresh_from_db()
    assert domain.phase == "ACTIVE"
    assert Task.objects.get(kind="domain.migrate").state == "failed"
    assert role(engine, VirtualDisk.objects.all()[0].pk) == "active"
    assert Alert.objects.filter(kind="change_mode_failure").exists()


def test_it_stays_fenced_until_a_silent_peer_answers(
    domain: ProtectionDomain, queue: Queue, engine: EngineSite, peer: PeerCall, answers: dict[str, Any]
) -> None:
    key = VirtualDisk.objects.all()[0].pk
    answers["activate_domain"] = PeerUnreachable("Silence.")
    task = _ready_to_hand_over(domain, peer, queue)
    domain.refresh_from_db()
    assert domain.phase == "NEEDS_OPERATOR"
    assert role(engine, key) == "down"
    del answers["activate_domain"]
    task.refresh_from_db()
    assert migrate.run(str(task.pk), term=None, baton=task.attempts) is None
    domain.refresh_from_db()
    assert (domain.phase, domain.mode) == ("INACTIVE", "inactive")
    assert role(engine, key) == "down"
    assert not VM.objects.exists()


def _ready_to_hand_over(domain: ProtectionDomain, peer: PeerCall, queue: Queue) -> Task:
    """Run a migration; the replications are declared done, for what they move is tested where they live."""
    queue_of_replication = Replication.objects.filter(direction="out")
    task = migrate.migrate(domain, site=peer.site, actor=ACTOR)
    queue.sent.clear()
    baton: int | None = None
    for _ in range(3):
        again = migrate.run(str(task.pk), term=None, baton=baton)
        queue_of_replication.update(state="SUCCEEDED")
        if again is None:
            break
        baton = again
    return task


def test_it_activates_above_the_site_it_handed_the_domain_to(
    domain: ProtectionDomain, queue: Queue, engine: EngineSite, peer: PeerCall, answers: dict[str, Any]
) -> None:
    """The other side was activated by our hand-over and died without sending anything: it must find itself stale."""
    answers["activate_domain"] = {}
    task = _ready_to_hand_over(domain, peer, queue)
    theirs = int(task.arguments["generation"])
    domain.refresh_from_db()
    assert (domain.phase, domain.generation_seen) == ("INACTIVE", theirs)
    activation.activate(domain, actor=ACTOR)
    assert last_task().arguments["generation"] > theirs


def test_both_sides_give_way_when_they_were_activated_apart(domain: ProtectionDomain, peer: PeerCall) -> None:
    here = domain.mode_generation
    assert stale.compare(domain, peer.site, {"mode": "active", "mode_generation": here})
    domain.refresh_from_db()
    assert domain.stale_state == "active_elsewhere"
    assert "both sides" in Alert.objects.get(kind="active_on_multiple_sites").message


def test_it_remembers_the_highest_generation_that_it_was_told(domain: ProtectionDomain, peer: PeerCall) -> None:
    stale.compare(domain, peer.site, {"mode": "inactive", "mode_generation": 41})
    domain.refresh_from_db()
    assert phases.next_generation(domain) == 42


def test_it_raises_the_alert_and_refuses_orders_when_active_elsewhere(
    domain: ProtectionDomain, queue: Queue, peer: PeerCall
) -> None:
    assert stale.compare(domain, peer.site, {"mode": "active", "mode_generation": 2})
    domain.refresh_from_db()
    assert (domain.stale_state, domain.peer_active_site) == ("active_elsewhere", "site2")
    assert Alert.objects.get(kind="active_on_multiple_sites").title == "Protection Domain Active On Multiple Sites"
    with pytest.raises(Conflict, match="active on site2 as well"):
        migrate.migrate(domain, site=peer.site, actor=ACTOR)
    deactivated(domain, queue)
    assert not Alert.objects.filter(kind="active_on_multiple_sites", resolved_at=None).exists()


def test_it_takes_one_snapshot_for_all_missed_grid_points(domain: ProtectionDomain, queue: Queue) -> None:
    schedule = schedules.add(
        domain, ScheduleSpec("HOURLY", 1, local_keep=6, start_at=timezone.now() - timedelta(minutes=1)), actor=ACTOR
    )
    now = timezone.now() + timedelta(hours=50)
    from dataprotection.services import snapshots

    assert snapshots.enqueue_due(now) == 1
    assert snapshots.enqueue_due(now) == 0
    queue.run()
    row = Snapshot.objects.get(schedule_uuid=schedule.uuid)
    assert row.expires_at == row.created_at + timedelta(hours=6)
    schedule.refresh_from_db()
    assert schedule.next_due_at is not None
    assert now < schedule.next_due_at <= now + timedelta(hours=1)


@pytest.mark.django_db(transaction=True)
def test_it_lets_one_of_eight_migrations_win(answers: dict[str, Any], queue: Queue) -> None:
    Site.objects.create(pk=1, uuid=uuid.uuid4(), name="site1", cluster_id=1, incarnation_id=1)
    from dataprotection.models import StorageContainer

    container = StorageContainer.objects.create(name="default")
    vm = VM.objects.create(name="vm", container=container)
    domain = domains.create(name="pd", actor=ACTOR)
    protection.protect(domain, entities=[vm], actor=ACTOR)
    target = RemoteSite.objects.create(name="site2", site_uuid=uuid.uuid4(), certificate_pem="x", addresses=[])
    won: list[Task] = []
    lost: list[IllegalTransition] = []
    start = threading.Barrier(8)

    def press() -> None:
        mine = ProtectionDomain.objects.get(pk=domain.pk)
        start.wait()
        try:
            won.append(migrate.migrate(mine, site=target, actor=ACTOR))
        except Conflict as refused:
            lost.append(refused)  # type: ignore[arg-type]
        finally:
            connection.close()

    threads = [threading.Thread(target=press) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert all(refused.http_status == 409 and refused.next_step for refused in lost)
    assert Task.objects.count() == 1
    assert DomainTransition.objects.count() == 1
