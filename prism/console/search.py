# SPDX-License-Identifier: Apache-2.0
"""Search over everything that has a name, and the orders of the command palette. One query per kind of object."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Case, IntegerField, Q, QuerySet, Value, When
from django.urls import reverse

from dataprotection.choices import Mode
from dataprotection.models import VM, ProtectionDomain, Snapshot, StorageContainer, StoredFile, VolumeGroup
from replication.models import RemoteSite

QUERY_CHARACTERS_MAX = 100
WORDS_MAX = 6
HITS_MAX = 6
"""Of each kind."""

ORDERED_DOMAINS_MAX = 4


@dataclass(frozen=True)
class Hit:
    """`dialog`: the address can be shown in the dialog of the page that one is on."""

    icon: str
    label: str
    url: str
    detail: str = ""
    dialog: bool = False


@dataclass(frozen=True)
class Group:
    title: str
    hits: list[Hit]


@dataclass(frozen=True)
class _Kind:
    """One kind of object: where its rows come from and how one is shown."""

    title: str
    icon: str
    rows: Callable[[], QuerySet[Any]]
    field: str
    url: Callable[[Any], str]
    detail: Callable[[Any], str]


def _of_domain(snapshot: Snapshot) -> str:
    return f"of {snapshot.domain_name}, {snapshot.created_at:%Y-%m-%d %H:%M} UTC"


_KINDS = (
    _Kind(
        "Protection domains", "shield", ProtectionDomain.objects.all, "name",
        lambda row: reverse("dp:domain", args=[row.pk]), lambda row: row.get_mode_display(),
    ),
    _Kind(
        "VMs", "vm", VM.objects.all, "name",
        lambda row: reverse("dp:vm", args=[row.pk]), lambda row: row.get_power_state_display(),
    ),
    _Kind(
        "Volume groups", "disk", VolumeGroup.objects.all, "name",
        lambda row: reverse("dp:volume-group", args=[row.pk]), lambda row: "",
    ),
    _Kind(
        "Files", "file", StoredFile.objects.all, "path",
        lambda row: reverse("dp:file", args=[row.pk]), lambda row: "",
    ),
    _Kind(
        "Snapshots", "camera", lambda: Snapshot.objects.filter(hidden_base=False), "display_id",
        lambda row: reverse("dp:snapshot", args=[row.pk]), _of_domain,
    ),
    _Kind(
        "Remote sites", "site", RemoteSite.objects.all, "name",
        lambda row: reverse("rep:site", args=[row.uuid]), lambda row: row.get_status_display(),
    ),
    _Kind(
        "Containers", "folder", StorageContainer.objects.all, "name",
        lambda row: reverse("dp:containers"), lambda row: "",
    ),
)  # fmt: skip

_PAGES = (
    ("home", "Home", "console:home"),
    ("shield", "Data Protection: overview", "dp:overview"),
    ("shield", "Data Protection: protection domains", "dp:domains"),
    ("site", "Remote sites", "rep:sites"),
    ("vm", "Inventory: VMs", "dp:vms"),
    ("disk", "Inventory: volume groups", "dp:volume-groups"),
    ("file", "Inventory: files", "dp:files"),
    ("folder", "Inventory: storage containers", "dp:containers"),
    ("task", "Tasks", "console:tasks"),
    ("bell", "Alerts", "console:alerts"),
    ("list", "Events", "console:events"),
    ("lock", "Audit", "console:audit"),
    ("search", "Integrity: scrub and healing", "console:integrity"),
    ("key", "API tokens", "console:tokens"),
    ("key", "NBD clients", "console:nbd-clients"),
)

_NEW = (
    ("plus", "New protection domain", "dp:wizard-name", False),
    ("plus", "New VM", "dp:vm-new", True),
    ("plus", "New volume group", "dp:volume-group-new", True),
    ("plus", "Add remote site", "rep:site-new", False),
    ("plus", "New API token", "console:token-new", True),
)

_ORDERS = (
    ("camera", "Take snapshot", "dp:take-snapshot", Mode.ACTIVE),
    ("right", "Migrate", "dp:migrate", Mode.ACTIVE),
    ("pause", "Deactivate", "dp:deactivate", Mode.ACTIVE),
    ("run", "Activate", "dp:activate", Mode.INACTIVE),
)


def words_of(query: str) -> list[str]:
    """What must all occur, lower case."""
    return query[:QUERY_CHARACTERS_MAX].replace("\x00", "").lower().split()[:WORDS_MAX]


def _matches(text: str, words: Iterable[str]) -> bool:
    return all(word in text.lower() for word in words)


def _named(rows: QuerySet[Any], field: str, words: list[str], most: int) -> list[Any]:
    """Rows whose name has all words: first those that are the words, then those that begin with them."""
    wanted = Q()
    for word in words:
        wanted &= Q(**{f"{field}__icontains": word})
    text = " ".join(words)
    rank = Case(
        When(Q(**{f"{field}__iexact": text}), then=Value(0)),
        When(Q(**{f"{field}__istartswith": text}), then=Value(1)),
        default=Value(2),
        output_field=IntegerField(),
    )
    return list(rows.filter(wanted).order_by(rank, field)[:most])


def _objects(words: list[str]) -> Iterable[Group]:
    for kind in _KINDS:
        hits = [
            Hit(kind.icon, str(getattr(row, kind.field)), kind.url(row), kind.detail(row))
            for row in _named(kind.rows(), kind.field, words, HITS_MAX)
        ]
        if hits:
            yield Group(kind.title, hits)


def _orders(words: list[str]) -> list[Hit]:
    """`migrate gold`: the first words name the order, the others the domain."""
    found: list[Hit] = []
    for icon, label, view, mode in _ORDERS:
        verb = label.lower().split()
        said = [word for word in words if any(part.startswith(word) for part in verb)]
        names = [word for word in words if word not in said]
        if not said or not verb[0].startswith(said[0]):
            continue
        domains = ProtectionDomain.objects.filter(mode=mode)
        for domain in _named(domains, "name", names, ORDERED_DOMAINS_MAX):
            found.append(Hit(icon, f"{label}: {domain.name}", reverse(view, args=[domain.pk]), "", dialog=True))
    return found


def find(query: str, *, may_act: bool) -> list[Group]:
    """What the words of `query` name; without words the pages. Orders only for those who may give them."""
    words = words_of(query)
    groups: list[Group] = []
    if words:
        orders = _orders(words) if may_act else []
        if orders:
            groups.append(Group("Orders", orders))
        groups.extend(_objects(words))
    if may_act:
        new = [Hit(icon, label, reverse(view), "", dialog) for icon, label, view, dialog in _NEW]
        groups.append(Group("New", [hit for hit in new if _matches(hit.label, words)]))
    pages = [Hit(icon, label, reverse(view)) for icon, label, view in _PAGES if _matches(label, words)]
    groups.append(Group("Pages", pages))
    return [group for group in groups if group.hits]
