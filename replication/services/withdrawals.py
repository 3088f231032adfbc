# SPDX-License-Identifier: Apache-2.0
"""Telling a remote site that a snapshot which was offered to it will not come.

Otherwise its row would be RUNNING, and what arrived be kept, until the grant runs out after days. The note that it has
to be told is the row itself: given up, and still with a session. So it survives a death at any place, and a site that
is away is told when it is back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from prism.core.exceptions import Refused
from replication import constants
from replication.choices import Direction
from replication.exceptions import PeerUnreachable
from replication.models import Replication
from replication.rpc import client
from replication.states import GIVEN_UP, ReplicationState

log = logging.getLogger(__name__)

REASON_CHARS_MAX = 2000


def send(answering: Iterable[str]) -> int:
    """The leader's part: tell the sites of these names. Returns how many withdrawals were answered."""
    rows = Replication.objects.filter(direction=Direction.OUT, state__in=GIVEN_UP, site__name__in=list(answering))
    silent: set[int] = set()
    told = 0
    for row in rows.exclude(session="").select_related("site").order_by("finished_at")[: constants.WITHDRAWALS_MAX]:
        if row.site_id in silent:
            continue
        try:
            _withdraw(row)
        except PeerUnreachable as error:
            log.info("replication %s: %s is not told yet: %s", row.uuid, row.site.name, error)
            silent.add(row.site_id)
            continue
        told += Replication.objects.filter(pk=row.pk, session=row.session).update(session="")
    return told


def _withdraw(row: Replication) -> None:
    """Raises PeerUnreachable. A refusal (not paired any more, an older release) is an answer, too: it stays one."""
    failed = row.state == ReplicationState.FAILED
    payload = {
        "snapshot": str(row.snapshot_uuid),
        "session": row.session,
        "failed": failed,
        "reason": (row.error if failed else row.get_state_display().lower())[:REASON_CHARS_MAX],
    }
    try:
        client.call(row.site, "withdraw_snapshot", payload)
    except PeerUnreachable:
        raise
    except Refused as error:
        log.info("replication %s: %s took no withdrawal: %s", row.uuid, row.site.name, error)
