# SPDX-License-Identifier: Apache-2.0
"""The one way in which a replication changes its state: a conditional UPDATE with an appended row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from prism.core.exceptions import IllegalTransition
from replication.models import Replication, ReplicationTransition
from replication.states import FINAL, OWNED, ReplicationEvent, ReplicationState, next_state, sources
from replication.states import IllegalTransition as IllegalStep


@transaction.atomic
def change(
    replication: Replication,
    event: ReplicationEvent,
    *,
    actor: str,
    reason: str = "",
    only_owner: str | None = None,
    at: datetime | None = None,
    **fields: Any,
) -> bool:
    """Fire `event`; also set `fields`.

    False, and nothing changed, when the row's state does not allow it or somebody was faster. With `only_owner` only
    while that run owns the row. `replication` is refreshed when True is returned.
    """
    at = at or timezone.now()
    rows = Replication.objects.filter(pk=replication.pk, state__in=sources(event))
    if only_owner is not None:
        rows = rows.filter(owner=only_owner)
    before = rows.values_list("state", flat=True).first()
    if before is None:
        return False
    after = next_state(ReplicationState(before), event)
    if after not in OWNED:
        fields.setdefault("owner", "")
    if after in FINAL:
        fields.setdefault("finished_at", at)
    if not rows.filter(state=before).update(state=after, **fields):
        return False
    ReplicationTransition.objects.create(
        replication=replication, at=at, event=event, from_state=before, to_state=after, reason=reason, actor=actor
    )
    replication.refresh_from_db()
    return True


def require(replication: Replication, event: ReplicationEvent, **arguments: Any) -> None:
    """Like `change`, for an operator's order: raises `IllegalTransition` (409) instead of returning False."""
    if change(replication, event, **arguments):
        return
    replication.refresh_from_db()
    state = ReplicationState(replication.state)
    verb = event.value.lower()
    what = f"{replication.domain_name} {replication.display_id}"
    message = f"The replication of {what} is {state.value.lower()}: cannot {verb} it."
    try:
        next_state(state, event)
    except IllegalStep:
        raise IllegalTransition(state, event, message) from None
    raise IllegalTransition(state, event, message, "It was changing at that moment; order it again.")
