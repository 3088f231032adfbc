# SPDX-License-Identifier: Apache-2.0
"""The drawing of sites and links on the overview."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from dataprotection.models import ScheduleRemote
from dataprotection.web.topology import SITES_MAX, topology
from replication.choices import SiteStatus
from replication.models import RemoteSite, Replication
from tests.console.conftest import Rows, make_domain, make_replication, make_site, make_snapshot

pytestmark = pytest.mark.usefixtures("no_workers")


def _page(client: Client) -> str:
    return client.get(reverse("dp:overview")).content.decode()


def test_it_draws_nothing_without_a_remote_site(reader: Client, rows: Rows) -> None:
    Replication.objects.all().delete()
    ScheduleRemote.objects.all().delete()
    RemoteSite.objects.all().delete()
    assert topology([]) is None
    assert '<svg class="topology' not in _page(reader)


def test_it_draws_every_link_in_the_state_it_is_in(reader: Client, rows: Rows) -> None:
    make_site("far", status=SiteStatus.UNREACHABLE, latency_seconds=0.02)
    make_site("near", status=SiteStatus.RELATIONSHIP_ESTABLISHED)
    make_site("new", status=SiteStatus.HANDSHAKING)
    Replication.objects.update(state="RUNNING", owner="w1", rate_bytes_per_second=12_000_000)
    text = _page(reader)
    for tone in ("good", "bad", "busy", "idle"):
        assert f'<g class="{tone}">' in text
    assert "20.0 ms" in text
    assert text.count('<line class="flow"') == 1
    assert reverse("rep:site", args=[rows.site.uuid]) in text


def test_it_counts_each_domain_with_a_copy_over_there_once(reader: Client, rows: Rows) -> None:
    for name, first in (("one", 10), ("two", 20)):
        domain = make_domain(name)
        for number in range(3):
            snapshot = make_snapshot(domain, first + number, rows.vm)
            make_replication(domain, snapshot, rows.site, state="SUCCEEDED", finished_at=snapshot.created_at)
    text = _page(reader)
    assert "2 domains with a copy there" in text
    assert "last sent" in text


def test_it_says_how_many_sites_only_the_table_has(reader: Client, rows: Rows) -> None:
    for number in range(SITES_MAX + 2):
        make_site(f"s{number:02}")
    text = _page(reader)
    assert text.count('<rect class="edge"') == SITES_MAX
    assert "3 more in the table." in text


def test_it_escapes_the_names_it_draws(reader: Client, rows: Rows) -> None:
    RemoteSite.objects.update(name="<script>x</script>")
    assert "<script>x" not in _page(reader)
