# SPDX-License-Identifier: Apache-2.0
"""One run of a replication: its phases, its retries, its end."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from replication_kit import ACTOR, MemoryEngine, make_site, manifest, progress

from prism.core.models import Alert, Task
from replication.exceptions import PeerRefused, PeerUnreachable
from replication.models import RemoteSite, Replication
from replication.rpc import client
from replication.services import replications, transfer
from replication.states import ReplicationState as S

pytestmark = pytest.mark.django_db

DOMAIN = uuid.uuid4()


class Peer:
    """The remote site's two answers; `refusal` is raised instead, `calls` remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.offer: dict[str, Any] = {"session": "s-1"}
        self.refusal: Exception | None = None

    def __call__(self, site: RemoteSite, name: str, payload: dict[str, Any], timeout: float = 0) -> dict[str, Any]:
        self.calls.append((name, payload))
        if self.refusal is not None:
            raise self.refusal
        return {"base": payload["base"], **self.offer} if name == "offer_snapshot" else {}

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Peer:
    found = Peer()
    monkeypatch.setattr(client, "call", found)
    return found


@pytest.fixture
def site(tmp_path: Path, engine: MemoryEngine, sent: list[str]) -> RemoteSite:
    return make_site(tmp_path)


def order(site: RemoteSite, number: int = 1) -> Replication:
    described = manifest(number, domain=DOMAIN)
    return replications.request(
        snapshot_uuid=described["snapshot"]["uuid"],
        manifest=described,
        site=site,
        retention_seconds=3600,
        hidden_base=False,
        actor=ACTOR,
    )


def run(row: Replication, **arguments: Any) -> Replication:
    transfer.run(row.uuid, **{"sleep": lambda _seconds: None, **arguments})
    row.refresh_from_db()
    return row


def test_it_offers_sends_and_announces(site: RemoteSite, peer: Peer, engine: MemoryEngine) -> None:
    engine.script = [progress("running", 400), progress("done", 1000)]
    row = run(order(site))
    assert (row.state, row.phase, row.done_bytes, row.wire_bytes, row.saved_bytes) == (
        S.SUCCEEDED,
        "done",
        1000,
        100,
        900,
    )
    assert peer.names == ["offer_snapshot", "snapshot_arrived"]
    assert engine.jobs[str(row.uuid)]["session"] == "s-1"
    assert Task.objects.get().state == "succeeded"


def test_it_sends_the_difference_to_the_newest_common_snapshot(
    site: RemoteSite, peer: Peer, engine: MemoryEngine
) -> None:
    first = run(order(site, 1))
    assert Alert.objects.get().kind == "full_replication"
    second = run(order(site, 2))
    assert engine.jobs[str(first.uuid)]["base"] is None
    assert engine.jobs[str(second.uuid)]["base"] == str(first.snapshot_uuid)
    assert Alert.objects.get().occurrences == 1


def test_it_sends_nothing_when_the_snapshot_is_there(site: RemoteSite, peer: Peer, engine: MemoryEngine) -> None:
    peer.offer["complete"] = True
    row = run(order(site))
    assert (row.state, engine.jobs) == (S.SUCCEEDED, {})


def test_it_waits_longer_after_each_failure_of_the_link(site: RemoteSite, peer: Peer) -> None:
    row, peer.refusal = order(site), PeerUnreachable("no answer")
    pauses = []
    for _ in range(3):
        begun = timezone.now()
        run(row)
        assert (row.state, row.error, row.owner) == (S.PENDING, "no answer", "")
        pauses.append(row.next_attempt_at - begun > timedelta(seconds=4 * 2 ** len(pauses)))
        assert transfer.run(row.uuid) is None
        Replication.objects.update(next_attempt_at=None)
    assert (pauses, row.attempts, Task.objects.get().state) == ([True] * 3, 3, "queued")
    peer.refusal = None
    assert run(row).state == S.SUCCEEDED


@pytest.mark.django_db(transaction=True)
def test_it_fails_for_good_when_the_site_refuses(site: RemoteSite, peer: Peer, sent: list[str]) -> None:
    peer.refusal = PeerRefused("no_space", "There is no space for it.", "Free some.")
    row = run(order(site))
    assert (row.state, row.error) == (S.FAILED, "There is no space for it. Free some.")
    assert Alert.objects.get().kind == "replication_failure"
    assert sent == [str(row.uuid)]


def test_it_ends_the_alert_with_the_next_success(site: RemoteSite, peer: Peer) -> None:
    peer.refusal = PeerRefused("no_space", "full")
    run(order(site))
    peer.refusal = None
    run(order(site, 2))
    assert Alert.objects.get(kind="replication_failure").resolved_at is not None


def disks_of(row: Replication) -> list[str]:
    return [disk["uuid"] for entity in row.manifest["entities"] for disk in entity["disks"]]


def test_it_sends_ahead_of_the_fold(site: RemoteSite, peer: Peer, engine: MemoryEngine) -> None:
    row = order(site)
    engine.unfolded = {str(row.snapshot_uuid)}
    engine.script = [progress("running", 0, phase="folding"), progress("running", 400), progress("done", 1000)]
    phases: list[str] = []
    run(row, sleep=lambda _seconds: phases.append(Replication.objects.get(pk=row.pk).phase))
    assert (row.state, phases) == (S.SUCCEEDED, ["fold", "sync"])
    assert engine.jobs[str(row.uuid)]["disks"] == disks_of(row)
    assert peer.calls[0][1]["bytes"] == 2000


def test_it_asks_for_no_more_than_it_needs_when_the_snapshot_is_folded(
    site: RemoteSite, peer: Peer, engine: MemoryEngine
) -> None:
    row = run(order(site))
    assert (engine.jobs[str(row.uuid)]["disks"], peer.calls[0][1]["bytes"]) == ([], 1000)


def test_it_offers_nothing_that_cannot_be_folded(site: RemoteSite, peer: Peer, engine: MemoryEngine) -> None:
    engine.damaged = True
    row = run(order(site))
    assert (row.state, row.error, peer.names) == (S.FAILED, "damaged blocks", [])


def test_it_ends_when_the_snapshot_is_deleted_while_it_is_folded(
    site: RemoteSite, peer: Peer, engine: MemoryEngine
) -> None:
    row = order(site)
    engine.unfolded = {str(row.snapshot_uuid)}
    engine.script = [progress("running", 0, phase="folding")]
    run(row, sleep=lambda _seconds: engine.gone.add(str(row.snapshot_uuid)))
    assert (row.state, row.error) == (S.FAILED, "no such snapshot")
    assert engine.cancelled == [(str(row.uuid), None)]


def test_it_goes_on_folding_while_the_front_is_away(site: RemoteSite, peer: Peer, engine: MemoryEngine) -> None:
    row = order(site)
    engine.unfolded = {str(row.snapshot_uuid)}
    engine.script = [progress("running", 0, phase="folding"), progress("running", 1, phase="folding")]
    engine.script.append(progress("done", 1000))

    def away(_seconds: float) -> None:
        engine.away = True

    assert run(row, sleep=away).state == S.SUCCEEDED


def test_it_leaves_the_job_of_its_successor_alone(site: RemoteSite, peer: Peer, engine: MemoryEngine) -> None:
    row, engine.script = order(site), [progress("running", 10, phase="folding")]

    def paused_and_resumed(_seconds: float) -> None:
        replications.pause(row, actor=ACTOR)
        replications.resume(row, actor=ACTOR)
        engine.script = [progress("done", 1000)]
        peer.offer["session"] = "s-2"
        assert run(row).state == S.SUCCEEDED

    run(row, sleep=paused_and_resumed)
    assert engine.cancelled == [(str(row.uuid), None), (str(row.uuid), "s-1")]


def test_it_fails_when_the_snapshot_is_gone(site: RemoteSite, peer: Peer, engine: MemoryEngine) -> None:
    row = order(site)
    engine.gone = {str(row.snapshot_uuid)}
    assert run(row).state == S.FAILED


def test_it_starts_again_when_the_engine_forgot_the_job(site: RemoteSite, peer: Peer, engine: MemoryEngine) -> None:
    row, engine.script = order(site), [progress("running", 10)]
    run(row, sleep=lambda _seconds: engine.jobs.clear())
    assert row.state == S.PENDING


def test_it_waits_for_an_engine_that_is_down(site: RemoteSite, peer: Peer, engine: MemoryEngine) -> None:
    row = order(site)
    engine.stop()
    assert run(row).state == S.PENDING


def test_it_does_not_use_a_base_that_is_gone_here(site: RemoteSite, peer: Peer, engine: MemoryEngine) -> None:
    oldest, older = run(order(site, 1)), run(order(site, 2))
    engine.gone = {str(older.snapshot_uuid)}
    newest = run(order(site, 3))
    assert engine.jobs[str(newest.uuid)]["base"] == str(oldest.snapshot_uuid)


@pytest.mark.parametrize(("code", "state"), [("peer_unreachable", S.PENDING), ("damaged_data", S.FAILED)])
def test_it_reads_the_engines_error(site: RemoteSite, peer: Peer, engine: MemoryEngine, code: str, state: S) -> None:
    engine.script = [progress("failed", 10, error={"code": code, "message": "it broke", "detail": ""})]
    row = run(order(site))
    assert (row.state, row.error) == (state, "it broke")


def test_it_stops_when_it_is_paused_meanwhile(site: RemoteSite, peer: Peer, engine: MemoryEngine) -> None:
    row = order(site)
    engine.script = [progress("running", 400)]
    run(row, sleep=lambda _seconds: replications.pause(row, actor=ACTOR))
    assert (row.state, row.done_bytes, peer.names) == (S.PAUSED, 400, ["offer_snapshot"])
    engine.script = [progress("done", 1000)]
    replications.resume(row, actor=ACTOR)
    assert run(row).state == S.SUCCEEDED


@pytest.mark.django_db(transaction=True)
def test_it_wakes_the_next_of_its_lane(site: RemoteSite, peer: Peer, engine: MemoryEngine, sent: list[str]) -> None:
    first, engine.script = order(site), [progress("running", 1), progress("done", 1)]
    later: list[Replication] = []
    run(first, sleep=lambda _seconds: later.append(order(site, 2)))
    assert first.state == S.SUCCEEDED
    assert sent[-1] == str(later[0].uuid)


def test_it_ignores_a_message_about_nothing() -> None:
    assert transfer.run(uuid.uuid4()) is None


def test_it_says_what_is_wrong_with_the_offers_answer(site: RemoteSite, peer: Peer) -> None:
    peer.offer = {"session": 7}
    row = run(order(site))
    assert row.state == S.FAILED
    assert "session" in row.error


def test_it_says_what_a_transfer_waits_for(site: RemoteSite, peer: Peer, engine: MemoryEngine) -> None:
    """Folding at once; a silent site and a full storage once it has stood still for half a minute."""
    told: list[str] = []

    def stand_still(_seconds: float) -> None:
        told.append(Task.objects.get().waits_for)
        step = len(told)
        row.refresh_from_db()
        if step == 1:
            engine.script = [progress("running", 400)]
        elif step == 2:
            running[0].task.moved_at = timezone.now() - timedelta(seconds=31)
            RemoteSite.objects.update(silent_since=timezone.now())
        elif step == 3:
            engine.script = [progress("running", 500)]
        else:
            engine.script = [progress("done", 1000)]

    running: list[Any] = []
    made = transfer.Run.__init__

    def remember(self: transfer.Run, *arguments: Any) -> None:
        made(self, *arguments)
        running.append(self)

    row = order(site)
    engine.script = [{**progress("running", 0), "phase": "folding"}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer.Run, "__init__", remember)
        assert run(row, sleep=stand_still).state == S.SUCCEEDED
    assert told[0] == "the block engine to fold the snapshot"
    assert told[1] == ""
    assert told[2].startswith(f"the link to {site.name}, which has not answered since ")
    assert told[3] == ""


def test_it_says_in_the_task_that_it_is_paused_or_tried_again(site: RemoteSite, peer: Peer) -> None:
    row, peer.refusal = order(site), PeerUnreachable("no answer")
    run(row)
    assert Task.objects.get().pace.waits_for == f"the link to {site.name}"
    replications.pause(row, actor=ACTOR)
    assert "paused" in Task.objects.get().pace.waits_for
    peer.refusal = None
    replications.resume(row, actor=ACTOR)
    assert run(row).state == S.SUCCEEDED
    assert Task.objects.get().pace.waits_for == ""


def test_it_says_that_the_other_site_has_not_answered_yet(
    site: RemoteSite, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def answer(*arguments: Any, **options: Any) -> dict[str, Any]:
        told.append(Task.objects.get().pace.waits_for)
        return peer(*arguments, **options)

    monkeypatch.setattr(client, "call", answer)
    assert run(order(site)).state == S.SUCCEEDED
    assert told == [f"{site.name} to answer the offer", f"{site.name} to publish the snapshot"]
