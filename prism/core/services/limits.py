# SPDX-License-Identifier: Apache-2.0
"""How often somebody may fail to sign in: django-axes keeps the counts, here are this product's limits.

Five failures of one name from one address, or fifty of any names from one address, within the cool-off time refuse
further tries from there. A cool-off ends by itself; tries during it do not prolong it.
"""

from __future__ import annotations

from datetime import datetime
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import QuerySet, Sum
from django.http import HttpRequest
from django.utils import timezone

IPV6_PREFIX_BITS = 64
"""Whoever has one IPv6 address has a whole network of them: it counts as one."""


class SignInLimits(AxesDatabaseHandler):  # type: ignore[misc]
    """Adds the limit per address: its failures count a tenth of those of one name."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        of_name: int = super().get_failures(request, credentials)
        rows = _recent().filter(ip_address=counted_address(request))
        of_address = rows.aggregate(total=Sum("failures_since_start"))["total"] or 0
        return max(of_name, of_address * settings.AXES_FAILURE_LIMIT // settings.AXES_ADDRESS_FAILURE_LIMIT)


def counted_address(request: HttpRequest) -> str | None:
    """The address that failures are counted for; None when the connection has none.

    Only the connection's own: headers of proxies can be made up by anybody.
    """
    try:
        found = ip_address(request.META.get("REMOTE_ADDR") or "")
    except ValueError:
        return None
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(IPv6Network((int(found), IPV6_PREFIX_BITS), strict=False).network_address)


def locked_until(request: HttpRequest, username: str) -> datetime | None:
    """When this name may be tried again from this address; None: now."""
    rows = _recent().filter(ip_address=counted_address(request))
    ends = [
        _end(rows.filter(username=username), settings.AXES_FAILURE_LIMIT),
        _end(rows, settings.AXES_ADDRESS_FAILURE_LIMIT),
    ]
    return max((end for end in ends if end is not None), default=None)


def locked_names() -> dict[str, datetime]:
    """Names that are locked from at least one address, and until when at the latest."""
    found: dict[str, datetime] = {}
    pairs = _recent().values_list("username", "ip_address").annotate(total=Sum("failures_since_start"))
    for username, address, _ in pairs.filter(total__gte=settings.AXES_FAILURE_LIMIT).order_by():
        end = _end(_recent().filter(username=username, ip_address=address), settings.AXES_FAILURE_LIMIT)
        if end is not None:
            found[username] = max(end, found.get(username, end))
    return found


def _recent() -> QuerySet[Any]:
    rows: QuerySet[Any] = AccessAttempt.objects.filter(attempt_time__gte=timezone.now() - settings.AXES_COOLOFF_TIME)
    return rows


def _end(rows: QuerySet[Any], limit: int) -> datetime | None:
    """When so many of the counted failures are old that fewer than `limit` are left; None when that is so now."""
    counted = list(rows.order_by("attempt_time").values_list("attempt_time", "failures_since_start"))
    left = sum(failures for _, failures in counted)
    end: datetime | None = None
    for at, failures in counted:
        if left < limit:
            break
        left -= failures
        end = at + settings.AXES_COOLOFF_TIME
    return end
