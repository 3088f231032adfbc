# SPDX-License-Identifier: Apache-2.0
"""A site for the services: real Postgres, a real engine in real processes; messages for workers are run by the test."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dp_kit import ACTOR, MiB, Queue

from dataprotection.models import VM, ProtectionDomain, StorageContainer, VolumeGroup
from dataprotection.services import containers, domains, protection, vms, volume_groups
from dataprotection.services.disks import NewDisk
from prism.core.models import Site
from tests.support.engine_site import EngineSite


@pytest.fixture(scope="session")
def engine_site() -> Iterator[EngineSite]:
    """One engine for the session; every test uses disks of its own."""
    folder = Path(tempfile.mkdtemp(prefix="dp-", dir="/tmp"))
    site = EngineSite(folder).start()
    yield site
    site.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def engine(engine_site: EngineSite, settings: Any) -> EngineSite:
    settings.PRISM_RUN_DIR = engine_site.folder / "run"
    return engine_site


@pytest.fixture
def site(db: None) -> Site:
    return Site.objects.create(pk=1, uuid=uuid.uuid4(), name="site1", cluster_id=11, incarnation_id=22)


@pytest.fixture
def container(site: Site, queue: Queue) -> StorageContainer:
    return containers.create(name="default", actor=ACTOR)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    """Messages stay with the test; each goes out when its transaction commits, which a test's never does: at once."""
    from dataprotection import tasks as doors
    from prism.core.services import tasks

    found = Queue()

    def after_commit(send: Any, *arguments: Any) -> None:
        door = getattr(send, "__self__", None)
        if getattr(door, "name", "").startswith("dataprotection."):
            found.sent.append((door, arguments))  # replications are not moved here

    monkeypatch.setattr(tasks, "after_commit", after_commit)
    # A waiting task would be sent again a second later: the tests do that themselves.
    monkeypatch.setattr(doors.migrate_domain, "apply_async", lambda *_args, **_kwargs: None)
    return found


@pytest.fixture
def make_vm(engine: EngineSite, container: StorageContainer) -> Callable[..., VM]:
    def make(name: str = "vm1", disks: int = 1, size_bytes: int = MiB) -> VM:
        return vms.create(
            name=name, container=container, disks=[NewDisk(size_bytes)] * disks, networks=["lan"], actor=ACTOR
        )

    return make


@pytest.fixture
def make_group(engine: EngineSite, container: StorageContainer) -> Callable[..., VolumeGroup]:
    def make(name: str = "vg1", disks: int = 1) -> VolumeGroup:
        return volume_groups.create(name=name, container=container, disks=[NewDisk(MiB)] * disks, actor=ACTOR)

    return make


@pytest.fixture
def domain(make_vm: Callable[..., VM], make_group: Callable[..., VolumeGroup]) -> ProtectionDomain:
    """A domain with one VM of two disks and a volume group, in one consistency group."""
    found = domains.create(name="pd1", actor=ACTOR)
    protection.protect(
        found, entities=[make_vm(disks=2), make_group()], group_mode="new", group_name="app", actor=ACTOR
    )
    return found
