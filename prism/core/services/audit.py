# SPDX-License-Identifier: Apache-2.0
"""Every order leaves a row: who, from where, what, outcome."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from psycopg.errors import ForeignKeyViolation, UniqueViolation

from prism.core.actor import Actor
from prism.core.choices import Outcome
from prism.core.exceptions import Conflict, Refused
from prism.core.models import AuditRow
from stargate.errors import StargateError


def record(
    verb: str,
    *,
    actor: Actor,
    outcome: str = Outcome.OK,
    object_type: str = "",
    object_name: str = "",
    detail: dict[str, Any] | None = None,
) -> AuditRow:
    """Append one row. `detail` must be JSON; secrets never belong in it."""
    return AuditRow.objects.create(
        actor=actor.label,
        user_id=actor.user.pk if actor.user else None,
        source=actor.source,
        address=actor.address,
        verb=verb,
        object_type=object_type,
        object_name=object_name,
        outcome=outcome,
        detail=detail or {},
    )


@contextmanager
def order(
    verb: str, *, actor: Actor, object_type: str = "", object_name: str = "", atomic: bool = True
) -> Iterator[dict[str, Any]]:
    """The body of a verb: one transaction when `atomic`, and one audit row whatever happens.

    Yields the row's `detail`, to be filled by the body. The row of a refusal or failure is written after the
    body's transaction was rolled back; callers must not wrap verbs in a transaction that they then roll back.
    What another order made or used between a check of this one and its row is a Conflict.
    """
    detail: dict[str, Any] = {}
    try:
        if atomic:
            with transaction.atomic():
                yield detail
                record(verb, actor=actor, object_type=object_type, object_name=object_name, detail=detail)
        else:
            yield detail
            record(verb, actor=actor, object_type=object_type, object_name=object_name, detail=detail)
    except Exception as raised:
        error = _overtaken() if _is_race(raised) else raised
        outcome = Outcome.REFUSED if isinstance(error, Refused) else Outcome.FAILED
        detail = {**detail, "code": getattr(error, "code", "internal"), "reason": _reason(error)}
        record(verb, actor=actor, outcome=outcome, object_type=object_type, object_name=object_name, detail=detail)
        if error is raised:
            raise
        raise error from raised


def _is_race(error: Exception) -> bool:
    """The services check first: rows that clash nevertheless were made, or are used, by somebody who was faster."""
    return isinstance(error, ProtectedError) or (
        isinstance(error, IntegrityError) and isinstance(error.__cause__, UniqueViolation | ForeignKeyViolation)
    )


def _overtaken() -> Conflict:
    return Conflict(
        "overtaken",
        "Another order changed the same objects at the same moment; nothing of this one was done.",
        "Look at them as they are now, then give the order again if it is still wanted.",
    )


def _reason(error: Exception) -> str:
    """The operator's sentence; an unexpected error only names its class, for its text may hold anything."""
    return str(error) if isinstance(error, (Refused, StargateError)) else type(error).__name__
