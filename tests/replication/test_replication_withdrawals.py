# SPDX-License-Identifier: Apache-2.0
"""What was offered and given up is withdrawn, however long that takes; the other site's row ends with the reason."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from replication_kit import ACTOR, MemoryEngine, make_site, manifest

from prism.core.models import Alert
from replication.cerebro.handlers import withdraw_snapshot
from replication.exceptions import PeerRefused, PeerUnreachable
from replication.models import RemoteSite, Replication
from replication.rpc import client
from replication.rpc.messages import WithdrawSnapshot
from replication.rpc.registry import PeerCall
from replication.services import incoming, replications, withdrawals
from replication.services.transitions import change
from replication.states import ReplicationEvent
from replication.states import ReplicationState as S

pytestmark = pytest.mark.django_db


@pytest.fixture
def site(tmp_path: Path, engine: MemoryEngine, sent: list[str]) -> RemoteSite:
    return make_site(tmp_path)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Payloads that reached the other site; an exception at the front is raised instead."""
    found: list[Any] = []

    def call(_site: RemoteSite, name: str, payload: dict[str, Any], timeout: float = 0) -> dict[str, Any]:
        if found and isinstance(found[0], Exception):
            raise found.pop(0)
        assert name == "withdraw_snapshot"
        found.append(payload)
        return {}

    monkeypatch.setattr(client, "call", call)
    return found


def offered(site: RemoteSite, session: str = "s-1") -> Replication:
    described = manifest(1, domain=uuid.uuid4())
    row = replications.request(
        snapshot_uuid=described["snapshot"]["uuid"],
        manifest=described,
        site=site,
        retention_seconds=None,
        hidden_base=False,
        actor=ACTOR,
    )
    change(row, ReplicationEvent.START, actor="worker", owner="me", session=session)
    return row


def given_up(site: RemoteSite, session: str = "s-1") -> Replication:
    row = offered(site, session)
    change(row, ReplicationEvent.FAIL, actor="worker", error="The bytes cannot be read.")
    return row


def receiving(site: RemoteSite) -> Replication:
    described = manifest(1, domain=uuid.uuid4())
    return incoming.begin(
        site=site,
        snapshot_uuid=uuid.UUID(described["snapshot"]["uuid"]),
        manifest=described,
        retention_seconds=None,
        hidden_base=False,
        session="s-1",
        grant_seconds=600,
    )


def test_it_tells_why_the_snapshot_does_not_come_once(site: RemoteSite, told: list[Any]) -> None:
    row = given_up(site)
    assert [withdrawals.send([site.name]) for _ in range(2)] == [1, 0]
    expected = {"snapshot": str(row.snapshot_uuid), "session": "s-1", "failed": True}
    assert told == [{**expected, "reason": "The bytes cannot be read."}]


def test_it_tells_of_what_an_operator_aborted(site: RemoteSite, told: list[Any]) -> None:
    replications.abort(offered(site), actor=ACTOR)
    withdrawals.send([site.name])
    assert [(found["failed"], found["reason"]) for found in told] == [(False, "aborted")]


def test_it_tells_nothing_of_what_still_runs_or_was_never_offered(site: RemoteSite, told: list[Any]) -> None:
    offered(site)
    given_up(site, session="")
    assert (withdrawals.send([site.name]), told) == (0, [])


def test_it_tells_a_site_that_was_away_when_it_is_back(site: RemoteSite, told: list[Any]) -> None:
    row = given_up(site)
    assert withdrawals.send([]) == 0
    told.append(PeerUnreachable("Silence."))
    assert withdrawals.send([site.name]) == 0
    row.refresh_from_db()
    assert row.session == "s-1"
    assert withdrawals.send([site.name]) == 1


def test_it_takes_a_refusal_for_an_answer(site: RemoteSite, told: list[Any]) -> None:
    given_up(site)
    told.append(PeerRefused("unknown_call", "An older release."))
    assert [withdrawals.send([site.name]) for _ in range(2)] == [1, 0]


def test_it_ends_the_row_of_what_cannot_come_with_the_reason(site: RemoteSite, engine: MemoryEngine) -> None:
    row = receiving(site)
    order = WithdrawSnapshot(row.snapshot_uuid, "s-1", True, "The bytes cannot be read.")
    for _ in range(2):
        assert withdraw_snapshot(PeerCall(site, "127.0.0.2"), order) == {}
    row.refresh_from_db()
    assert (row.state, row.error) == (S.FAILED, "remote gave it up: The bytes cannot be read.")
    assert engine.ended == ["s-1", "s-1"]
    assert [alert.kind for alert in Alert.objects.all()] == ["receive_failure"]


def test_it_ends_the_row_of_what_was_aborted_without_an_alert(site: RemoteSite, engine: MemoryEngine) -> None:
    row = receiving(site)
    withdraw_snapshot(PeerCall(site, "127.0.0.2"), WithdrawSnapshot(row.snapshot_uuid, "s-1", False, "aborted"))
    row.refresh_from_db()
    assert (row.state, Alert.objects.exists()) == (S.ABORTED, False)


@pytest.mark.parametrize("spoil", ["session", "snapshot", "site"])
def test_it_ends_nothing_that_was_not_meant(site: RemoteSite, engine: MemoryEngine, tmp_path: Path, spoil: str) -> None:
    row = receiving(site)
    caller = make_site(tmp_path, "other") if spoil == "site" else site
    snapshot = uuid.uuid4() if spoil == "snapshot" else row.snapshot_uuid
    session = "s-0" if spoil == "session" else "s-1"
    withdraw_snapshot(PeerCall(caller, "127.0.0.3"), WithdrawSnapshot(snapshot, session, True, "x"))
    row.refresh_from_db()
    assert (row.state, engine.ended) == (S.RUNNING, [])
    assert row.expires_at is not None
    assert row.expires_at > timezone.now() + timedelta(seconds=500)
