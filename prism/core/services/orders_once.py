# SPDX-License-Identifier: Apache-2.0
"""An order that is sent again with the same Idempotency-Key is carried out once, and answered as the first time."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from prism.core.exceptions import Conflict
from prism.core.models import Order

KEPT = timedelta(hours=24)
"""How long an answer is remembered."""

ABANDONED_AFTER = timedelta(minutes=10)
"""Longer than any request may take: whoever began it is dead."""


def begin(user_id: int, key: str, fingerprint: str) -> Order:
    """The order of this key: a new one to carry out, or one that has a `status`, to be answered again. Raises Conflict
    when the key belongs to another order, or its order is still under way.
    """
    now = timezone.now()
    values = {"fingerprint": fingerprint, "begun_at": now}
    order, created = Order.objects.get_or_create(user_id=user_id, key=key, defaults=values)
    if created:
        return order
    if order.fingerprint != fingerprint:
        raise Conflict(
            "idempotency_key_reused",
            "This Idempotency-Key belongs to another order.",
            "Send each order with a key of its own.",
        )
    if order.status is not None:
        return order
    taken = Order.objects.filter(pk=order.pk, begun_at=order.begun_at, begun_at__lt=now - ABANDONED_AFTER)
    if not taken.update(begun_at=now):
        raise Conflict(
            "order_under_way", "This order is being carried out.", "Send it again with the same key in a moment."
        )
    order.begun_at = now
    return order


def finish(order: Order, status: int, body: str | None, location: str) -> None:
    """It was carried out, and this was the answer; `body` None: what must not be kept."""
    order.status, order.body, order.location, order.is_secret = status, body or "", location, body is None
    order.save(update_fields=["status", "body", "location", "is_secret"])


def give_up(order: Order) -> None:
    """It was refused, or failed: the same key may be tried again."""
    Order.objects.filter(pk=order.pk, begun_at=order.begun_at, status=None).delete()


def prune(now: datetime) -> int:
    """Forget old answers. Returns how many rows."""
    gone, _ = Order.objects.filter(begun_at__lt=now - KEPT).delete()
    return gone
