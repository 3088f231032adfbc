# SPDX-License-Identifier: Apache-2.0
"""Sort, search and pages of every table: all state is in the address, so that any view of a table can be linked to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest

PAGE_ROWS = 20
COUNT_MAX = 10_000
"""Rows are counted up to here; who wants to see more than the newest 500 pages searches or exports."""
SEARCH_CHARACTERS_MAX = 100


class BoundedPaginator(Paginator[Any]):
    """A table of a million rows costs no more to count than one of ten thousand."""

    def __init__(self, rows: QuerySet[Any], page_rows: int, counted: QuerySet[Any]) -> None:
        super().__init__(rows, page_rows)
        self._counted = counted

    @cached_property
    def _found(self) -> int:
        return self._counted.order_by().values("pk")[: COUNT_MAX + 1].count()

    @cached_property
    def count(self) -> int:
        """At most `COUNT_MAX`."""
        return min(self._found, COUNT_MAX)

    @property
    def more(self) -> bool:
        """Whether there are rows that were not counted."""
        return self._found > COUNT_MAX


@dataclass(frozen=True)
class Table:
    """One page of rows and the links around it. `prefix` keeps two tables of one page apart in the address."""

    page: Page[Any]
    query: str
    sort: str
    prefix: str
    params: Mapping[str, str]

    @property
    def rows(self) -> Sequence[Any]:
        """The rows of this page."""
        return list(self.page.object_list)

    @property
    def count(self) -> int:
        """Rows on all pages that can be turned to."""
        return self.page.paginator.count

    @property
    def more(self) -> bool:
        """Whether there are more rows than pages show."""
        return bool(getattr(self.page.paginator, "more", False))

    def link(self, **changes: str | int | None) -> str:
        """The present address with some parameters of this table changed; None removes one."""
        merged = dict(self.params)
        for key, value in changes.items():
            merged.pop(self.prefix + key, None)
            if value is not None and value != "":
                merged[self.prefix + key] = str(value)
        return "?" + urlencode(merged)

    def sort_link(self, column: str) -> str:
        """Sort by `column`; the other way round when it is sorted already."""
        return self.link(sort=f"-{column}" if self.sort == column else column, page=None)

    def arrow(self, column: str) -> str:
        """The direction shown in the header of `column`, or nothing."""
        return "▲" if self.sort == column else "▼" if self.sort == f"-{column}" else ""

    @property
    def previous_link(self) -> str | None:
        """Address of the page before, None on the first."""
        return self.link(page=self.page.previous_page_number()) if self.page.has_previous() else None

    @property
    def next_link(self) -> str | None:
        """Address of the page after, None on the last."""
        return self.link(page=self.page.next_page_number()) if self.page.has_next() else None

    @property
    def kept(self) -> list[tuple[str, str]]:
        """Parameters that a search form must carry along."""
        own = {self.prefix + "q", self.prefix + "page"}
        return [(key, value) for key, value in self.params.items() if key not in own]


def table(
    request: HttpRequest,
    rows: QuerySet[Any],
    *,
    sorts: Mapping[str, str],
    default: str,
    search: Sequence[str] = (),
    prefix: str = "",
    page_rows: int = PAGE_ROWS,
    counted: QuerySet[Any] | None = None,
    newest: int = 0,
) -> Table:
    """`sorts` maps column words of the address to ORM fields; anything else in the address is ignored.

    `counted`: the same rows without annotations, where those cost. `newest`: a search or another sort looks at so many
    of the rows with the highest keys only (0 = all); for tables that only grow and have no index for it.
    """
    counted = rows if counted is None else counted
    query = searched_for(request.GET.get(prefix + "q", ""))
    if query and search:
        wanted = matching(query, search)
        rows, counted = rows.filter(wanted), counted.filter(wanted)
    sort = request.GET.get(prefix + "sort", "")
    if sort.removeprefix("-") not in sorts:
        sort = default
    if newest and (query or sort != default):
        rows, counted = newest_of(rows, newest), newest_of(counted, newest)
    rows = in_order(rows, sort, sorts)
    page = BoundedPaginator(rows, page_rows, counted).get_page(request.GET.get(prefix + "page"))
    return Table(page, query, sort, prefix, {key: request.GET[key] for key in request.GET})


def searched_for(text: str) -> str:
    """What of `text`, which anybody may have sent, is searched for; "" = nothing."""
    return text[:SEARCH_CHARACTERS_MAX].replace("\x00", "").strip()


def matching(query: str, search: Sequence[str]) -> Q:
    """Rows with `query` in one of these fields."""
    wanted = Q()
    for field in search:
        wanted |= Q(**{f"{field}__icontains": query})
    return wanted


def in_order(rows: QuerySet[Any], sort: str, sorts: Mapping[str, str]) -> QuerySet[Any]:
    """`sort` is a word of `sorts`, with a minus in front: downwards. Equal ones keep one order on all pages."""
    minus = "-" if sort.startswith("-") else ""
    return rows.order_by(minus + sorts[sort.removeprefix("-")], f"{minus}pk")


def newest_of(rows: QuerySet[Any], count: int) -> QuerySet[Any]:
    """Those among the `count` highest keys of the table."""
    last = rows.model._default_manager.order_by("-pk").values_list("pk", flat=True).first()
    return rows if last is None else rows.filter(pk__gt=last - count)
