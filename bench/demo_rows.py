# SPDX-License-Identifier: Apache-2.0
"""Rows of a large site, without bytes behind them: what `make demo-data` measures the pages on.

Runs inside a site's Django. The disks do not exist in the engine; nothing but pages should be tried on them.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from dataprotection.models import (
    VM,
    ConsistencyGroup,
    ProtectedEntity,
    ProtectionDomain,
    Schedule,
    ScheduleRemote,
    Snapshot,
    StorageContainer,
    VirtualDisk,
)
from replication.models import RemoteSite, Replication
from stargate.units import GiB, MiB

SITES = 2


@dataclass(frozen=True)
class Sizes:
    """How many rows of each."""

    vms: int = 1_000
    domains: int = 2_000
    snapshots: int = 100_000
    largest: int = 10_000
    """Snapshots of the first domain, among them."""
    audit: int = 1_000_000
    events: int = 100_000
    tasks: int = 20_000
    replications: int = 50_000

    def scaled(self, part: float) -> Sizes:
        """The same proportions, smaller."""
        return Sizes(**{name: max(2, int(count * part)) for name, count in asdict(self).items()})


def copy(table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """COPY into a table."""
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as out:
        for row in rows:
            out.write_row(row)


def fill(sizes: Sizes, seed: int = 1) -> None:
    """All of it, in one go; names begin with `demo-`."""
    rng = random.Random(seed)
    now = timezone.now()
    container = StorageContainer.objects.get_or_create(name="demo")[0]
    vms = VM.objects.bulk_create(VM(name=f"demo-vm{n:04}", container=container) for n in range(sizes.vms))
    VirtualDisk.objects.bulk_create(
        VirtualDisk(size_bytes=40 * GiB, export_name=f"{vm.name}-scsi0", vm=vm, bus="scsi", index=0) for vm in vms
    )
    sites = [_site(number) for number in range(SITES)]
    domains = ProtectionDomain.objects.bulk_create(
        ProtectionDomain(name=f"demo-pd{n:04}") for n in range(sizes.domains)
    )
    _protect(domains, vms, sites, now)
    _snapshots(domains, vms, sizes, rng, now)
    _replications(sites, sizes)
    _audit(sizes, rng, now)
    _notices(domains, sizes, rng, now)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _site(number: int) -> RemoteSite:
    return RemoteSite.objects.create(name=f"demo-site{number}", addresses=[])


def _protect(domains: list[ProtectionDomain], vms: list[VM], sites: list[RemoteSite], now: datetime) -> None:
    used = domains[: len(vms)]
    groups = ConsistencyGroup.objects.bulk_create(
        ConsistencyGroup(domain=domain, name=vm.name) for domain, vm in zip(used, vms, strict=False)
    )
    ProtectedEntity.objects.bulk_create(
        ProtectedEntity(domain=group.domain, group=group, entity_type="vm", name=vm.name, vm=vm)
        for group, vm in zip(groups, vms, strict=False)
    )
    later = now + timedelta(days=300)
    schedules = Schedule.objects.bulk_create(
        Schedule(domain=domain, type="HOURLY", every_nth=1, start_at=later, local_keep=24, next_due_at=later)
        for domain in domains
    )
    ScheduleRemote.objects.bulk_create(
        ScheduleRemote(schedule=schedule, site=sites[n % SITES], keep=48) for n, schedule in enumerate(schedules)
    )


def _manifest(vm: VM) -> str:
    disk = {"uuid": str(uuid.uuid4()), "size_bytes": 40 * GiB}
    entity = {"type": "vm", "uuid": str(vm.pk), "name": vm.name, "disks": [disk]}
    return json.dumps({"groups": [{"name": vm.name, "app_consistent": False, "entities": [str(vm.pk)]}],
                       "entities": [entity]})  # fmt: skip


def _snapshots(domains: list[ProtectionDomain], vms: list[VM], sizes: Sizes, rng: random.Random, now: datetime) -> None:
    each = max(1, (sizes.snapshots - sizes.largest) // max(1, len(domains) - 1))
    counts = [sizes.largest, *([each] * (len(domains) - 1))]
    origin = uuid.uuid4()

    def rows() -> Iterable[Sequence[Any]]:
        number = 1_000_000
        for index, (domain, count) in enumerate(zip(domains, counts, strict=True)):
            manifest = _manifest(vms[index % len(vms)])
            for hours in range(count):
                number += 1
                at = now - timedelta(hours=hours, seconds=rng.randrange(600))
                yield (
                    uuid.uuid4(), domain.pk, domain.name, str(number), 1, 1, number, at, now + timedelta(days=200),
                    "AVAILABLE", origin, False, "scheduled" if rng.random() < 0.9 else "one_time", "crash", "crash",
                    False, manifest, 40 * GiB, rng.randrange(GiB),
                )  # fmt: skip

    columns = (
        "uuid", "domain_id", "domain_name", "display_id", "cluster_id", "incarnation_id", "local_id", "created_at",
        "expires_at", "state", "origin_site_uuid", "received", "kind", "consistency", "consistency_wanted",
        "hidden_base", "manifest", "size_bytes", "reclaimable_bytes",
    )  # fmt: skip
    copy("dataprotection_snapshot", columns, rows())


def _replications(sites: list[RemoteSite], sizes: Sizes) -> None:
    """The newest snapshots have arrived at one site each."""
    newest = Snapshot.objects.filter(domain_name__startswith="demo-").order_by("-created_at")
    found = newest.values_list("pk", "created_at", "domain_id", "domain_name", "display_id", "local_id")
    Replication.objects.bulk_create(
        (
            Replication(
                snapshot_uuid=pk, snapshot_created_at=at, domain_uuid=domain, domain_name=name, display_id=display,
                site=sites[number % SITES], direction="out", state="SUCCEEDED", phase="done", manifest={},
                start_at=at, created_at=at, started_at=at, finished_at=at + timedelta(seconds=20),
                wire_bytes=MiB, done_bytes=4 * MiB, total_bytes=4 * MiB, saved_bytes=3 * MiB,
            )
            for pk, at, domain, name, display, number in found[: sizes.replications]
        ),
        batch_size=2_000,
    )  # fmt: skip


def _audit(sizes: Sizes, rng: random.Random, now: datetime) -> None:
    verbs = ["domain.create", "snapshot.take", "domain.protect", "schedule.create", "restore.clone", "vm.create"]

    def rows() -> Iterable[Sequence[Any]]:
        for n in range(sizes.audit):
            name = f"demo-pd{rng.randrange(sizes.domains):04}"
            yield (
                now - timedelta(seconds=30 * n), "admin", "console", "192.0.2.7", verbs[n % len(verbs)],
                "protection_domain", name, "refused" if n % 50 == 0 else "ok", '{"keep": 24}',
            )  # fmt: skip

    columns = ("at", "actor", "source", "address", "verb", "object_type", "object_name", "outcome", "detail")
    copy("core_auditrow", columns, rows())


def _notices(domains: list[ProtectionDomain], sizes: Sizes, rng: random.Random, now: datetime) -> None:
    def events() -> Iterable[Sequence[Any]]:
        for n in range(sizes.events):
            domain = rng.choice(domains)
            text = f"Snapshot {n} of {domain.name} was taken."
            yield (
                now - timedelta(seconds=60 * n), "snapshot_taken", "info", text, "protection_domain", domain.name,
                str(domain.pk),
            )  # fmt: skip

    copy("core_event", ("at", "kind", "severity", "message", "object_type", "object_name", "object_id"), events())

    def tasks() -> Iterable[Sequence[Any]]:
        for n in range(sizes.tasks):
            at = now - timedelta(minutes=n)
            yield (
                uuid.uuid4(), "snapshot.take", "succeeded", "", 0, 0, "", "", "admin", "protection_domain",
                rng.choice(domains).name, "", at, at, at + timedelta(seconds=2), "{}", "{}", 1,
            )  # fmt: skip

    columns = (
        "uuid", "kind", "state", "phase", "done_bytes", "rate", "message", "error", "actor", "object_type",
        "object_name", "object_id", "created_at", "started_at", "finished_at", "arguments", "result", "attempts",
    )  # fmt: skip
    copy("core_task", columns, tasks())
