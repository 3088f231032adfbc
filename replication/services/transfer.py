# SPDX-License-Identifier: Apache-2.0
"""One run of a replication: what the Celery task does once it owns the row.

    offer    ask the remote site for a session (it checks the manifest and its space, and grants it in its engine)
    fold     the engine drains and folds the snapshot, and sends what is ready meanwhile
    sync     the engine sends the rest; its progress is followed into the row
    arrived  tell the remote site; it publishes the snapshot
    done

Every step can be repeated: a run that dies anywhere is started again from the offer, and the receiver says what it has.
The row is the authority: each write is conditional on (RUNNING, owner), and a run that finds itself replaced stops the
engine and leaves.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from django.utils import timezone

from prism.core.engine import engine
from prism.core.exceptions import Refused, Unreachable
from prism.core.services import tasks
from replication import constants
from replication.choices import ReplicationPhase
from replication.models import Replication
from replication.rpc import client, schema
from replication.rpc.messages import OfferAnswer
from replication.selectors import current_term, newest_common, snapshot_facts
from replication.services import notices, queue, task_rows, waiting
from replication.services.metering import Meter
from replication.services.transitions import change
from replication.states import ReplicationEvent, ReplicationState
from stargate.errors import BY_CODE, Fenced, NoSpace, NotFound, PeerUnreachable, StargateError, Unavailable

log = logging.getLogger(__name__)

RETRY: tuple[type[Exception], ...] = (Unreachable, Unavailable, PeerUnreachable, NoSpace, Fenced)
"""What may pass by itself. All else is final: repeating the order would give the same answer."""


class Replaced(Exception):
    """The row is no longer this run's: paused, aborted, or taken over by another worker."""


def run(replication_uuid: uuid.UUID | str, *, sleep: Callable[[float], None] = time.sleep) -> Replication | None:
    """Serve the lane of that replication once. None when there was nothing to do (second delivery, lane busy, gone)."""
    asked = Replication.objects.filter(uuid=replication_uuid).first()
    if asked is None:
        return None
    row = queue.claim_next(asked.site_id, asked.domain_uuid, now=timezone.now(), term=current_term())
    if row is None:
        return None
    try:
        Run(row, sleep).perform()
    except Replaced:
        log.info("replication %s: replaced, stopping", row.uuid)
        _stop_engine(row, row.session)  # by now the job may be another run's
    except RETRY as error:
        _retry(row, error)
    except (Refused, StargateError) as error:
        _fail(row, error)
    queue.enqueue_next(row)
    row.refresh_from_db()
    return row


class Run:
    """The steps, and what they share. `row` is claimed."""

    def __init__(self, row: Replication, sleep: Callable[[float], None]) -> None:
        self.row = row
        self.sleep = sleep
        self.engine = engine()
        self.task = task_rows.started(row)
        self.seen: tuple[float, int] = (time.monotonic(), 0)
        self.meter = Meter(row)
        self.explain_from = 0.0  # by the monotonic clock
        self.facts = snapshot_facts(row.manifest)
        self.folded = False

    def perform(self) -> None:
        """All phases; raises what stopped it."""
        if self.row.attempts == 1:
            notices.happened(self.row, "started")
        answer = self.offer()
        if not answer.complete:
            self.sync(answer)
        self.arrived(answer)
        self.done()

    def offer(self) -> OfferAnswer:
        """Agree on a session and a base."""
        row = self.row
        self.keep(phase=ReplicationPhase.OFFER)
        self.folded = self.look()
        common = self.common()
        payload = {
            "replication": str(row.uuid),
            "manifest": row.manifest,
            "retention_seconds": row.retention_seconds,
            "hidden_base": row.hidden_base,
            # A place that is written while the log is drained may travel twice: ahead of the fold, and after it.
            "bytes": self.facts.size_bytes * (1 if self.folded else 2),
            "base": str(common) if common else None,
        }
        self.say(f"{row.site.name} to answer the offer")
        raw = client.call(row.site, "offer_snapshot", payload, constants.OFFER_TIMEOUT_SECONDS)
        answer = _offer_answer(raw)
        self.keep(session=answer.session, base_snapshot_uuid=common if common == answer.base else None)
        return answer

    def look(self) -> bool:
        """Whether the engine has folded the snapshot. Raises what makes an offer pointless: NotFound, DamagedData."""
        snapshot = str(self.row.snapshot_uuid)
        try:
            self.engine.wait_rooted(snapshot, 0.0)
        except (Unavailable, NotFound):
            # A store that lags behind the log does not know it yet; the front does, or says that it is gone.
            self.engine.snapshot(snapshot)
            return False
        return True

    def common(self) -> uuid.UUID | None:
        """The newest snapshot on both sites that our engine still has. None = send in full."""
        row = self.row
        for candidate in newest_common(row.site, row.domain_uuid, before=row.snapshot_created_at):
            try:
                self.engine.snapshot(str(candidate))
            except NotFound:
                continue
            return candidate
        return None

    def sync(self, answer: OfferAnswer) -> None:
        """The engines talk; this only watches."""
        row = self.row
        if row.base_snapshot_uuid is None:
            notices.full(row)
        self.keep(phase=ReplicationPhase.SYNC)
        self.engine.sync_start(
            str(row.uuid),
            str(row.snapshot_uuid),
            address=row.site.addresses[0]["host"],
            port=int(row.site.addresses[0]["data_port"]),
            site_id=str(row.site.site_uuid),
            session=answer.session,
            fingerprinting=answer.fingerprinting and bool(row.manifest.get("fingerprinting", True)),
            base=str(row.base_snapshot_uuid) if row.base_snapshot_uuid else None,
            compress=row.site.compress,
            disks=() if self.folded else self.facts.disks,
        )
        try:
            while not self.watch():
                self.sleep(constants.PROGRESS_SECONDS)
        finally:
            self.meter.flush()

    def watch(self) -> bool:
        """Copy the engine's progress into the row. True when everything was sent; raises the engine's error."""
        try:
            status = self.engine.sync_status(str(self.row.uuid))
        except NotFound as error:
            raise Unavailable(error.message) from error  # the engine was restarted: jobs live in its memory
        folding = status["phase"] == waiting.FOLDING
        self.keep(phase=ReplicationPhase.FOLD if folding else ReplicationPhase.SYNC, **self.progress(status))
        self.meter.saw(self.row.wire_bytes)
        self.explain(str(status["phase"]))
        if status["state"] == "done":
            return True
        if status["state"] != "running":
            raise _engine_error(status)
        if folding:
            self.still_there()
        return False

    def still_there(self) -> None:
        """Only the front knows of a deletion that is not drained yet. Raises NotFound."""
        try:
            self.engine.snapshot(str(self.row.snapshot_uuid))
        except Unavailable as error:
            log.info("replication %s: the front does not answer; the store goes on: %s", self.row.uuid, error)

    def progress(self, status: dict[str, Any]) -> dict[str, int]:
        """Columns out of a `sync_status`."""
        total = int(status["total_bytes"]) or self.row.total_bytes
        counts = {
            name: int(status[name])
            for name in ("done_bytes", "wire_bytes", "chunks_total", "chunks_sent", "chunks_deduplicated")
        }
        return {
            **counts,
            "total_bytes": total,
            "saved_bytes": max(0, counts["done_bytes"] - counts["wire_bytes"]),
            "rate_bytes_per_second": self.rate(counts["done_bytes"]),
        }

    def rate(self, done_bytes: int) -> int:
        """Bytes per second since the last look; the old figure when no time has passed."""
        now = time.monotonic()
        (then, before), self.seen = self.seen, (now, done_bytes)
        passed = now - then
        return int(max(0, done_bytes - before) / passed) if passed > 0 else self.row.rate_bytes_per_second

    def arrived(self, answer: OfferAnswer) -> None:
        """The remote site publishes."""
        self.keep(phase=ReplicationPhase.ARRIVED)
        payload = {"snapshot": str(self.row.snapshot_uuid), "session": answer.session}
        self.say(f"{self.row.site.name} to publish the snapshot")
        client.call(self.row.site, "snapshot_arrived", payload, constants.OFFER_TIMEOUT_SECONDS)

    def explain(self, phase: str) -> None:
        """Say why it does not move: a fold at once, for the rest the site and the engine are asked now and then."""
        if phase == waiting.FOLDING:
            self.say(waiting.FOLD)
        elif self.task is not None and self.task.stalled and time.monotonic() >= self.explain_from:
            self.explain_from = time.monotonic() + waiting.ASK_EVERY_SECONDS
            self.say(waiting.reason(self.row.site))

    def say(self, waits_for: str) -> None:
        """What holds the run up, for whoever looks at its task; "" = not known."""
        if self.task is not None and waits_for != self.task.waits_for:
            tasks.progress(self.task, waits_for=waits_for)

    def done(self) -> None:
        """The row says so; from here on it is a base for the next one."""
        row = self.row
        fields: dict[str, Any] = {
            "phase": ReplicationPhase.DONE,
            "rate_bytes_per_second": 0,
            "done_bytes": row.total_bytes,
        }
        if not change(row, ReplicationEvent.SUCCEED, actor=queue.WORKER, only_owner=row.owner, **fields):
            raise Replaced
        notices.completed(row)
        task_rows.succeed(row, f"{row.chunks_sent} chunks sent, {row.chunks_deduplicated} were there already.")

    def keep(self, **fields: Any) -> None:
        """Heartbeat and `fields`; raises `Replaced` when the row is not this run's any more."""
        fields["heartbeat_at"] = timezone.now()
        mine = Replication.objects.filter(pk=self.row.pk, state=ReplicationState.RUNNING, owner=self.row.owner)
        if not mine.update(**fields):
            raise Replaced
        for name, value in fields.items():
            setattr(self.row, name, value)
        if self.task is not None:
            row = self.row
            tasks.progress(self.task, phase=row.phase, done_bytes=row.done_bytes, total_bytes=row.total_bytes)


def _offer_answer(raw: dict[str, Any]) -> OfferAnswer:
    try:
        return schema.decode(OfferAnswer, raw)
    except schema.SchemaError as error:
        raise Refused("peer_protocol", f"The remote site's answer to the offer is wrong: {error}.") from error


def _engine_error(status: dict[str, Any]) -> StargateError:
    """What stopped the engine's job, as the class that says whether to retry."""
    error = status.get("error")
    if isinstance(error, dict):
        kind = BY_CODE.get(str(error.get("code")), StargateError)
        return kind(str(error.get("message", "")), str(error.get("detail", "")))
    if error:
        return StargateError(str(error))
    return Unavailable(f"The transfer ended in state {status['state']} and will be started again.")


def _retry(row: Replication, error: Exception) -> None:
    _stop_engine(row)
    pause = queue.backoff(row.attempts)
    at = timezone.now()
    fields: dict[str, Any] = {"phase": ReplicationPhase.QUEUED, "next_attempt_at": at + pause, "error": str(error)}
    if change(
        row, ReplicationEvent.RETRY, actor=queue.WORKER, only_owner=row.owner, reason=str(error), at=at, **fields
    ):
        message = f"{error} Next attempt in {pause.total_seconds():.0f} s."
        task_rows.waiting(row, message, waits_for=waiting.after(error, row.site))


def _fail(row: Replication, error: Exception) -> None:
    _stop_engine(row)
    text = f"{error} {getattr(error, 'next_step', '')}".strip()
    if change(row, ReplicationEvent.FAIL, actor=queue.WORKER, only_owner=row.owner, reason=text, error=text):
        notices.failed(row)
        task_rows.fail(row, text)


def _stop_engine(row: Replication, session: str | None = None) -> None:
    """Nothing depends on it: a job nobody watches ends with its grant."""
    try:
        engine().sync_cancel(str(row.uuid), session)
    except (StargateError, Refused) as error:
        log.info("replication %s: engine not told to stop: %s", row.uuid, error)
