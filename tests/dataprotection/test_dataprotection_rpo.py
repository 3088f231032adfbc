# SPDX-License-Identifier: Apache-2.0
"""The alert for replications that did not happen."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from dataprotection.models import ProtectionDomain, Schedule, ScheduleRemote
from dataprotection.services import domains, rpo
from prism.core.actor import Actor
from prism.core.models import Alert, Site
from replication.models import RemoteSite, Replication

pytestmark = pytest.mark.django_db
START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


@pytest.fixture
def domain() -> ProtectionDomain:
    """Hourly to one site since START."""
    Site.objects.create(pk=1, uuid=uuid.uuid4(), name="site1", cluster_id=1, incarnation_id=1)
    made = domains.create(name="pd", actor=Actor.cli("test"))
    schedule = Schedule.objects.create(
        domain=made, type="HOURLY", every_nth=1, start_at=START, local_keep=2, created_at=START
    )
    site = RemoteSite.objects.create(name="site2", site_uuid=uuid.uuid4(), certificate_pem="x", addresses=[])
    ScheduleRemote.objects.create(schedule=schedule, site=site, keep=2)
    return made


def arrived(domain: ProtectionDomain, at: datetime) -> None:
    Replication.objects.create(
        snapshot_uuid=uuid.uuid4(),
        snapshot_created_at=at,
        domain_uuid=domain.uuid,
        domain_name=domain.name,
        display_id="1",
        site=RemoteSite.objects.get(),
        state="SUCCEEDED",
        manifest={},
        start_at=at,
        created_at=at,
        finished_at=at,
    )


def open_alerts() -> list[str]:
    return list(Alert.objects.filter(kind="rpo_missed", resolved_at=None).values_list("message", flat=True))


def test_it_is_quiet_while_the_first_replication_may_still_come(domain: ProtectionDomain) -> None:
    rpo.check(START + timedelta(minutes=70))
    assert open_alerts() == []


def test_it_speaks_when_nothing_came_and_goes_when_something_did(domain: ProtectionDomain) -> None:
    late = START + timedelta(minutes=76)
    rpo.check(late)
    rpo.check(late)
    assert len(open_alerts()) == 1
    assert "site2 has nothing newer than 2026-03-01 08:00 UTC" in open_alerts()[0]
    arrived(domain, START + timedelta(hours=1))
    rpo.check(late)
    assert open_alerts() == []
    rpo.check(START + timedelta(hours=2, minutes=16))
    assert len(open_alerts()) == 1


@pytest.mark.parametrize("change", [{"suspended": True}, {"end_at": START + timedelta(hours=1)}])
def test_it_expects_nothing_of_a_schedule_that_does_not_run(
    domain: ProtectionDomain, change: dict[str, object]
) -> None:
    Schedule.objects.update(**change)
    rpo.check(START + timedelta(days=1))
    assert open_alerts() == []
