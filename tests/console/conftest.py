# SPDX-License-Identifier: Apache-2.0
"""A site with rows for every page, and clients of each kind of user."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from dataprotection import models as dp
from prism.core.models import Alert, ApiToken, AuditRow, Event, Site, Task
from prism.webkit.access import OPERATOR_GROUP
from replication.models import RemoteSite, Replication
from tests.support.engine_site import EngineSite


@pytest.fixture(autouse=True)
def _own_cache(settings: Any) -> None:
    """Sent forms are remembered in the process instead of in Redis."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()


@pytest.fixture(scope="session")
def engine_site() -> Iterator[EngineSite]:
    """One real engine for the tests that need bytes."""
    folder = Path(tempfile.mkdtemp(prefix="co-", dir="/tmp"))
    site = EngineSite(folder)
    try:
        yield site.start()
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def engine(engine_site: EngineSite, settings: Any) -> EngineSite:
    settings.PRISM_RUN_DIR = engine_site.folder / "run"
    return engine_site


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker and no other site: orders stay queued rows, and remote sites are silent."""
    from prism.core.services import tasks
    from replication.exceptions import PeerUnreachable
    from replication.rpc import client

    def silent(*args: Any, **kwargs: Any) -> None:
        raise PeerUnreachable("TM3 does not answer.")

    monkeypatch.setattr(tasks, "after_commit", lambda *args: None)
    monkeypatch.setattr(client, "call", silent)


@dataclass
class Rows:
    """One of each."""

    domain: dp.ProtectionDomain
    snapshot: dp.Snapshot
    schedule: dp.Schedule
    vm: dp.VM
    free_vm: dp.VM
    group: dp.VolumeGroup
    file: dp.StoredFile
    container: dp.StorageContainer
    site: RemoteSite
    task: Task
    alert: Alert
    replication: Replication
    user: User


def _entity_disk(number: int, **owner: object) -> None:
    dp.VirtualDisk.objects.create(size_bytes=1 << 30, export_name=f"disk-{number}-{uuid.uuid4()}", **owner)


def make_domain(name: str, **fields: object) -> dp.ProtectionDomain:
    """A domain without entities."""
    return dp.ProtectionDomain.objects.create(name=name, **fields)


def make_snapshot(domain: dp.ProtectionDomain, number: int, entity: dp.VM, **fields: object) -> dp.Snapshot:
    """A restore point with `entity` in its manifest."""
    disk = {"uuid": str(uuid.uuid4()), "size_bytes": 1 << 30}
    manifest = {
        "groups": [{"name": entity.name, "app_consistent": False, "entities": [str(entity.pk)]}],
        "entities": [{"type": "vm", "uuid": str(entity.pk), "name": entity.name, "disks": [disk]}],
    }
    values = {
        "domain": domain, "domain_name": domain.name, "display_id": str(number), "cluster_id": 1, "incarnation_id": 1,
        "local_id": number, "created_at": timezone.now() - timedelta(minutes=number), "state": "AVAILABLE",
        "origin_site_uuid": uuid.uuid4(), "kind": "scheduled", "manifest": manifest, "size_bytes": 1 << 30,
    }  # fmt: skip
    return dp.Snapshot.objects.create(**{**values, **fields})


def make_replication(
    domain: dp.ProtectionDomain, snapshot: dp.Snapshot, site: RemoteSite, **fields: object
) -> Replication:
    """A replication of `snapshot` to `site`, pending unless told otherwise."""
    now = timezone.now()
    return Replication.objects.create(
        snapshot_uuid=snapshot.pk, snapshot_created_at=snapshot.created_at, domain_uuid=domain.pk,
        domain_name=domain.name, display_id=snapshot.display_id, site=site, manifest={}, start_at=now, created_at=now,
        **fields,
    )  # fmt: skip


def make_site(name: str, **fields: object) -> RemoteSite:
    """A paired remote site."""
    address = {"host": "10.7.0.2", "control_port": 2020, "data_port": 2009}
    values = {"site_uuid": uuid.uuid4(), "certificate_pem": "pinned", "addresses": [address]}
    return RemoteSite.objects.create(name=name, **{**values, **fields})


@pytest.fixture
def rows(db: None) -> Rows:
    Site.objects.create(id=1, uuid=uuid.uuid4(), name="site1", cluster_id=1, incarnation_id=1)
    container = dp.StorageContainer.objects.create(name="default")
    vm, free_vm = (dp.VM.objects.create(name=name, container=container) for name in ("app01", "spare"))
    group = dp.VolumeGroup.objects.create(name="data", container=container)
    file = dp.StoredFile.objects.create(path="/iso/debian.iso", container=container)
    for number, owner in enumerate(({"vm": vm}, {"volume_group": group}, {"stored_file": file})):
        _entity_disk(number, **owner)
    dp.Nic.objects.create(vm=vm, network="prod", mac="52:54:00:00:00:01")
    dp.VolumeGroupAttachment.objects.create(volume_group=group, vm=vm)
    domain, site = make_domain("fooPD"), make_site("TM3")
    cg = dp.ConsistencyGroup.objects.create(domain=domain, name="app01")
    dp.ProtectedEntity.objects.create(domain=domain, group=cg, entity_type="vm", name="app01", vm=vm)
    now = timezone.now()
    schedule = dp.Schedule.objects.create(
        domain=domain, type="HOURLY", every_nth=1, start_at=now, local_keep=6, next_due_at=now
    )
    dp.ScheduleRemote.objects.create(schedule=schedule, site=site, keep=2)
    snapshot = make_snapshot(domain, 54404, vm)
    replication = make_replication(domain, snapshot, site)
    task = Task.objects.create(kind="snapshot", actor="admin", object_name="fooPD", state="running", started_at=now)
    alert = Alert.objects.create(kind="x", severity="critical", title="Broken", message="It broke.", dedup_key="x")
    Event.objects.create(kind="x", message="It happened.", object_type="protection_domain", object_name="fooPD")
    AuditRow.objects.create(actor="admin", source="console", verb="domain.create", outcome="ok", detail={"a": 1})
    user = User.objects.create_user("uwe")
    return Rows(domain, snapshot, schedule, vm, free_vm, group, file, container, site, task, alert, replication, user)


def client_of(user: User) -> Client:
    """A signed-in browser."""
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def admin_user(db: None) -> User:
    user = User.objects.create_superuser("admin", password=None)
    ApiToken.objects.create(user=user, name="report", token_hash="0" * 64, prefix="prism_abcdef")
    return user


@pytest.fixture
def admin(admin_user: User) -> Client:
    return client_of(admin_user)


@pytest.fixture
def operator(db: None) -> Client:
    user = User.objects.create_user("olga")
    user.groups.add(Group.objects.create(name=OPERATOR_GROUP))
    return client_of(user)


@pytest.fixture
def reader(db: None) -> Client:
    return client_of(User.objects.create_user("rita"))


@pytest.fixture
def served(rows: Rows, engine: EngineSite) -> Rows:
    """The same rows, with their disks in a real engine."""
    from dataprotection.services import disks

    for disk in dp.VirtualDisk.objects.all():
        disks.create_in_engine(disk)
    return rows
