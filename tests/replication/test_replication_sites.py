# SPDX-License-Identifier: Apache-2.0
"""Two whole sites: real engines, real Cerebro over there, real bytes. The worker's part runs in this process."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from replication_kit import ACTOR, Cerebro, make_layout, manifest

from prism.core.models import Alert
from prism.layout import SiteConfig
from prism.layout import redis_url as make_redis_url
from replication.cerebro.leader import Leader
from replication.models import RemoteSite, Replication
from replication.services import remote_sites, replications, transfer
from stargate.units import MiB
from tests.support.engine_site import EngineSite

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.workflow]

DOMAIN = uuid.uuid4()
DISK_BYTES = 16 * MiB


def start_engine(folder: Path, config: SiteConfig) -> EngineSite:
    site = EngineSite(folder, address=config.listen)
    site.peer_port = config.ports["peer"]
    site._store_args = ["--hot-limit-mib", "256", "--site-id", config.uuid]
    return site.start()


@pytest.fixture
def here(settings: Any, redis_url: str, sent: list[str]) -> Iterator[EngineSite]:
    """This process is site 1."""
    folder = Path(tempfile.mkdtemp(prefix="pr-", dir="/tmp"))
    settings.LAYOUT, settings.SITE_CONFIG = make_layout(folder / "site1", 1)
    settings.PRISM_RUN_DIR = settings.LAYOUT.run
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis_url}}
    site = start_engine(settings.LAYOUT.data, settings.SITE_CONFIG)
    yield site
    site.stop()
    shutil.rmtree(folder)


@pytest.fixture
def leader(here: EngineSite) -> Iterator[Leader]:
    """Site 1 has one."""
    leader = Leader()
    assert leader.step(timezone.now())
    yield leader
    leader.resign()


@pytest.fixture
def over_there(here: EngineSite, remote_database: str, redis_server: Any) -> Iterator[tuple[Cerebro, EngineSite]]:
    """Site 2, paired with site 1."""
    folder = Path(tempfile.mkdtemp(prefix="pr-", dir="/tmp"))
    layout, config = make_layout(folder / "site2", 2)
    engine = start_engine(layout.data, config)
    cerebro = Cerebro(layout, config, remote_database, make_redis_url(redis_server.socket.parent, number=2))
    cerebro.rows("TRUNCATE replication_remotesite, replication_leaderstate, core_site CASCADE")
    cerebro.start()
    code = cerebro.command("pair_local", "--code")
    remote_sites.pair(host="127.0.0.1", control_port=cerebro.port, code=code, actor=ACTOR)
    yield cerebro, engine
    cerebro.stop()
    engine.stop()
    shutil.rmtree(folder)


def snapshot(site: EngineSite, disk: str, number: int, config: Any) -> Replication:
    """Take a snapshot and order its replication."""
    described = manifest(number, domain=DOMAIN)
    described["site"] = {
        "uuid": config.uuid,
        "name": config.name,
        "cluster_id": config.cluster_id,
        "incarnation_id": config.incarnation_id,
    }
    described["entities"] = [
        {
            "type": "vm",
            "uuid": str(uuid.uuid4()),
            "name": "db",
            "container": "default",
            "attributes": {},
            "nics": [],
            "attachments": [],
            "disks": [{"uuid": disk, "size_bytes": DISK_BYTES, "bus": "scsi", "index": 0, "label": "root"}],
        }
    ]
    key = described["snapshot"]["uuid"]
    site.engine.snapshot_create(key, [disk], manifest=described)
    return replications.request(
        snapshot_uuid=key,
        manifest=described,
        site=RemoteSite.objects.get(),
        retention_seconds=3600,
        hidden_base=False,
        actor=ACTOR,
    )


def run(row: Replication) -> Replication:
    transfer.run(row.uuid)
    row.refresh_from_db()
    assert row.state == "SUCCEEDED", row.error
    return row


def test_it_brings_snapshots_to_the_other_site(
    here: EngineSite, over_there: tuple[Cerebro, EngineSite], leader: Leader, settings: Any
) -> None:
    cerebro, engine = over_there
    disk = here.disk(DISK_BYTES)
    with here.open(disk) as client:
        client.write(0, b"payroll" * 100_000)
        client.flush()
    first = run(snapshot(here, disk, 1, settings.SITE_CONFIG))
    assert engine.content(f"snapshot:{first.snapshot_uuid}:{disk}") == here.content(disk)
    assert cerebro.rows("SELECT direction, state, phase FROM replication_replication") == [("in", "SUCCEEDED", "done")]
    assert first.chunks_sent > 0
    second = run(snapshot(here, disk, 2, settings.SITE_CONFIG))
    assert (second.base_snapshot_uuid, second.chunks_sent) == (first.snapshot_uuid, 0)
    assert Alert.objects.filter(kind="full_replication").count() == 1
    assert second.saved_bytes > 0
    assert transfer.run(second.uuid) is None
