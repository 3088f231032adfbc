# SPDX-License-Identifier: Apache-2.0
"""What deleting snapshots gives back, from the engine's scan to API and console."""

from __future__ import annotations

import random
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from dp_kit import ACTOR, Queue, nbd, take

from dataprotection.models import VM, ProtectionDomain, Snapshot
from dataprotection.services import space
from dataprotection.web.rows import annotated, domain_rows
from prism.core.services import tokens
from tests.support.engine_site import EngineSite

CHUNK = 65536


@pytest.fixture
def user(domain: ProtectionDomain) -> User:
    return User.objects.create(username="maria", is_superuser=True)


@pytest.fixture
def api(user: User) -> Client:
    _, text = tokens.create(user=user, name="test", actor=ACTOR)
    return Client(headers={"Authorization": f"Bearer {text}"})


@pytest.fixture
def points(domain: ProtectionDomain, queue: Queue, engine: EngineSite) -> list[Snapshot]:
    """Two that share a chunk with each other alone, then a third."""
    disk = VM.objects.get().disks.first()
    assert disk is not None
    rows = []
    rng = random.Random(str(disk.uuid))
    for at, length in ((0, CHUNK), (CHUNK, CHUNK), (0, CHUNK)):
        with nbd(engine, disk) as client:
            client.write(at, rng.randbytes(length))
        rows.append(take(domain, queue))
    engine.engine.wait_rooted(str(rows[-1].uuid))
    return rows


def ask(api: Client, query: str, status: int = 200) -> dict[str, object]:
    answer = api.get(f"/api/v1/snapshots/what-if/?{query}")
    assert answer.status_code == status, answer.content
    found: dict[str, object] = answer.json()
    return found


def test_it_says_what_a_set_of_snapshots_gives_back(
    api: Client, points: list[Snapshot], domain: ProtectionDomain, engine: EngineSite
) -> None:
    one, two, three = (f"snapshots={row.pk}" for row in points)
    guess = ask(api, one)
    assert guess["exact"] is False
    engine.engine.scan()
    single = [ask(api, query) for query in (one, two)]
    both = ask(api, f"{one}&{two}")
    assert both["exact"] is True
    assert both["scanned_at"]
    sizes = [int(str(found["freed_bytes"])) for found in (*single, both)]
    assert sizes[2] >= CHUNK + sizes[0] + sizes[1], "what they share comes back when both go"
    whole = ask(api, f"domain={domain.pk}")
    assert int(str(whole["freed_bytes"])) >= sizes[2]
    assert ask(api, three)["exact"] is True
    ask(api, "", 422)
    ask(api, f"snapshots={uuid.uuid4()}", 422)
    ask(api, "snapshots=x", 422)


def test_the_pages_say_it_too(user: User, points: list[Snapshot], domain: ProtectionDomain, engine: EngineSite) -> None:
    engine.engine.scan()
    both = space.what_if([row.pk for row in points])
    (row,) = domain_rows(list(annotated()))
    assert row.exclusive_bytes == both.freed_bytes
    assert both.freed_bytes is not None
    assert both.freed_bytes > sum(engine.engine.reclaimable([str(p.pk) for p in points]).values())
    client = Client()
    client.force_login(user)
    page = client.get(reverse("dp:snapshot-delete", args=[points[0].pk])).content.decode()
    assert "it gives back" in page
    assert "as of" in page


def test_without_an_engine_nothing_is_claimed(
    user: User, domain: ProtectionDomain, queue: Queue, settings: Any, tmp_path: Path
) -> None:
    row = take(domain, queue)
    settings.PRISM_RUN_DIR = tmp_path
    assert space.forecast([row.pk]) == space.Forecast()
    assert space.exclusive_of([domain.pk]) == {domain.pk: None}
    client = Client()
    client.force_login(user)
    page = client.get(reverse("dp:snapshot-delete", args=[row.pk])).content.decode()
    assert "not known yet" in page
