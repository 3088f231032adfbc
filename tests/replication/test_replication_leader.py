# SPDX-License-Identifier: Apache-2.0
"""Who leads, and what the lead does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from replication_kit import ACTOR, MemoryEngine, make_site

from prism.core.engine import engine as this_engine
from prism.core.models import Alert, Task
from prism.core.services import tasks
from replication.cerebro import data_health, health, registry
from replication.cerebro.engine_health import EngineHealth
from replication.cerebro.leader import Leader, Rhythm, tick
from replication.cerebro.process import EngineWatch
from replication.models import LeaderState, RemoteSite
from stargate.errors import StaleTerm

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def contenders(engine: MemoryEngine) -> Iterator[tuple[Leader, Leader]]:
    pair = Leader("one"), Leader("two")
    yield pair
    for leader in pair:
        leader.resign()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the test's own providers."""
    for name in ("due_providers", "expiry_providers", "task_senders", "start_callbacks", "site_uses"):
        monkeypatch.setattr(registry, name, {})


def test_it_has_one_leader_of_two(contenders: tuple[Leader, Leader]) -> None:
    one, two = contenders
    assert [one.step(timezone.now()), two.step(timezone.now()), one.step(timezone.now())] == [True, False, True]
    assert LeaderState.objects.get().holder == "one"
    one.resign()
    assert two.step(timezone.now())
    assert LeaderState.objects.get().holder == "two"


def test_it_raises_the_term_above_database_and_engine(contenders: tuple[Leader, Leader], engine: MemoryEngine) -> None:
    engine.term = 41
    LeaderState.objects.create(pk=1, term=17)
    one, two = contenders
    one.step(timezone.now())
    assert (one.term, engine.term, LeaderState.objects.get().term) == (42, 42, 42)
    one.resign()
    two.step(timezone.now())
    assert two.term == 43
    with pytest.raises(StaleTerm):
        this_engine().claim_term(42)


def test_it_stops_at_once_when_its_session_is_gone(contenders: tuple[Leader, Leader]) -> None:
    one, two = contenders
    one.step(timezone.now())
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [one._backend])
    assert two.step(timezone.now()) or two.step(timezone.now())
    assert not one.step(timezone.now())
    assert (one.term, two.term) == (0, 2)


def test_it_stops_when_somebody_has_a_newer_term(contenders: tuple[Leader, Leader]) -> None:
    one, _ = contenders
    one.step(timezone.now())
    LeaderState.objects.update(term=9)
    assert not one.step(timezone.now())
    assert LeaderState.objects.get().term == 9


def test_it_does_not_lead_without_the_engine(contenders: tuple[Leader, Leader], engine: MemoryEngine) -> None:
    one, two = contenders
    engine.stop()
    assert not one.step(timezone.now())
    assert not two.step(timezone.now())


def test_it_calls_providers_in_their_rhythm(quiet: None) -> None:
    seen: list[str] = []
    registry.register_due("a", lambda _now: seen.append("due"))
    registry.register_expiry("a", lambda _now: seen.append("expiry"))
    now, rhythm = timezone.now(), Rhythm()
    for second in range(61):
        tick(now + timedelta(seconds=second), rhythm)
    assert (seen.count("due"), seen.count("expiry")) == (61, 2)


def test_it_goes_on_when_a_provider_fails(quiet: None, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_now: Any) -> None:
        raise ValueError("bug")

    seen: list[Any] = []
    registry.register_due("a", broken)
    registry.register_due("b", seen.append)
    now = timezone.now()
    tick(now)
    assert seen == [now]
    assert "due work of a failed" in caplog.text


def test_it_sends_lost_and_stalled_tasks_again(quiet: None) -> None:
    found: list[str] = []
    registry.register_task("migrate", found.append)
    lost, stalled, fresh, other = (tasks.create(kind, actor=ACTOR) for kind in ("migrate", "migrate", "migrate", "x"))
    long_ago = timezone.now() - timedelta(minutes=5)
    Task.objects.exclude(pk=fresh.pk).update(created_at=long_ago)
    Task.objects.filter(pk=stalled.pk).update(state="running", heartbeat_at=long_ago)
    tick(timezone.now())
    assert set(found) == {str(lost.uuid), str(stalled.uuid)}
    assert other.kind not in registry.task_senders


def test_it_raises_the_alert_of_a_silent_site_after_thirty_seconds(local: Any, tmp_path: Path) -> None:
    site, now = make_site(tmp_path), timezone.now()
    for seconds in (0, 10, 20, 29):
        assert health.check_peers(now + timedelta(seconds=seconds)) == {"remote": False}
    assert not Alert.objects.exists()
    health.check_peers(now + timedelta(seconds=30))
    assert Alert.objects.get().kind == "remote_site_unhealthy"
    site.refresh_from_db()
    assert site.status == "UNREACHABLE"


def test_it_tells_the_engine_pins_it_missed(local: Any, tmp_path: Path, engine: MemoryEngine, quiet: None) -> None:
    site = make_site(tmp_path)
    RemoteSite.objects.update(engine_knows=False)
    tick(timezone.now())
    assert engine.peers == {str(site.site_uuid): site.certificate_pem}


def test_it_asks_the_peers_again_when_only_the_engine_was_restarted(
    engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gates of replicated disks are closed after each start of the engine, not only after one of Cerebro."""
    calls: list[str] = []
    monkeypatch.setattr(registry, "start_callbacks", {"test": lambda: calls.append("asked")})
    watch = EngineWatch()
    assert watch.look()
    assert not watch.look()
    engine.incarnation += 1
    assert watch.look()
    assert calls == ["asked", "asked"]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"frozen": True}, "frozen"),
        ({"nbd_problem": "the NBD authority is damaged"}, "No client on a network"),
        ({"store_connected": False, "log_used_bytes": 30, "log_cap_bytes": 40}, "75 % full"),
        ({"last_error": "no space"}, "keeps failing: no space"),
    ],
)
def test_it_says_when_the_engine_is_ill(local: Any, engine: MemoryEngine, facts: dict[str, Any], words: str) -> None:
    now = timezone.now()
    health_of_engine = EngineHealth()
    assert health_of_engine.look(now) == ""
    engine.facts = facts
    assert words in health_of_engine.look(now)
    assert not Alert.objects.filter(kind="engine_unhealthy").exists()
    health_of_engine.look(now + timedelta(seconds=31))
    assert words in Alert.objects.get(kind="engine_unhealthy", resolved_at=None).message
    engine.facts = {}
    health_of_engine.look(now + timedelta(seconds=40))
    assert not Alert.objects.filter(kind="engine_unhealthy", resolved_at=None).exists()


@pytest.mark.parametrize(("heads_lost", "effect"), [(True, "answer EIO"), (False, "still sent")])
def test_a_damaged_log_is_told_at_once_with_its_effect_and_the_way_out(
    local: Any, engine: MemoryEngine, heads_lost: bool, effect: str
) -> None:
    assert not data_health.look_at_log()
    engine.facts = {"damaged": {"position": 7, "heads_lost": heads_lost, "message": "read-only: damaged at 7"}}
    assert data_health.look_at_log()
    assert EngineHealth().look(timezone.now()) == "", "it is told once"
    alert = Alert.objects.get(kind="log_damaged", resolved_at=None)
    assert "damaged at 7" in alert.message
    assert effect in alert.message
    assert "accept-loss" in alert.next_step
    engine.facts = {}
    assert not data_health.look_at_log()
    assert not Alert.objects.filter(kind="log_damaged", resolved_at=None).exists()
