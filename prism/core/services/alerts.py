# SPDX-License-Identifier: Apache-2.0
"""Conditions that need somebody: raised once, counted when they repeat, resolved when they end."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from prism.core.actor import Actor
from prism.core.models import Alert
from prism.core.services import audit
from prism.core.services.alert_kinds import KINDS


def raise_alert(
    kind: str,
    message: str,
    *,
    object_type: str = "",
    object_name: str = "",
    object_id: Any = "",
    dedup: str = "",
) -> Alert:
    """Raise `kind` (see `alert_kinds`), or count it when the same one is still unresolved.

    "The same" = kind, object and `dedup` (a distinguishing word, e.g. a site's name).
    """
    about = KINDS[kind]
    key = f"{kind}:{object_type}:{object_id or object_name}:{dedup}"[:255]
    now = timezone.now()
    with transaction.atomic():
        alert, created = Alert.objects.get_or_create(
            dedup_key=key,
            resolved_at=None,
            defaults={
                "kind": kind,
                "severity": about.severity,
                "title": about.title,
                "message": message,
                "cause": about.cause,
                "next_step": about.next_step,
                "object_type": object_type,
                "object_name": object_name,
                "object_id": str(object_id),
                "raised_at": now,
                "last_seen_at": now,
            },
        )
        if not created:
            Alert.objects.filter(pk=alert.pk).update(
                occurrences=F("occurrences") + 1, last_seen_at=now, message=message
            )
            alert.refresh_from_db()
    return alert


def clear(kind: str, *, object_type: str = "", object_name: str = "", object_id: Any = "", dedup: str = "") -> bool:
    """The condition ended by itself. True when there was an unresolved alert."""
    key = f"{kind}:{object_type}:{object_id or object_name}:{dedup}"[:255]
    gone = Alert.objects.filter(dedup_key=key, resolved_at__isnull=True)
    return bool(gone.update(resolved_at=timezone.now(), resolved_by="system"))


def forget(object_type: str, object_id: Any) -> int:
    """The object is gone, and with it what there was to mend. Returns how many alerts that were."""
    gone = Alert.objects.filter(object_type=object_type, object_id=str(object_id), resolved_at__isnull=True)
    return gone.update(resolved_at=timezone.now(), resolved_by="system")


def acknowledge(alert: Alert, *, actor: Actor) -> Alert:
    """Somebody has seen it. The first one counts."""
    with audit.order("alert.acknowledge", actor=actor, object_type="alert", object_name=alert.title):
        Alert.objects.filter(pk=alert.pk, acknowledged_at__isnull=True).update(
            acknowledged_at=timezone.now(), acknowledged_by=actor.label
        )
    alert.refresh_from_db()
    return alert


def resolve_alert(alert: Alert, *, actor: Actor) -> Alert:
    """An operator says it is dealt with; the same condition may raise a new one."""
    with audit.order("alert.resolve", actor=actor, object_type="alert", object_name=alert.title):
        Alert.objects.filter(pk=alert.pk, resolved_at__isnull=True).update(
            resolved_at=timezone.now(), resolved_by=actor.label
        )
    alert.refresh_from_db()
    return alert
