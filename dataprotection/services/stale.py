# SPDX-License-Identifier: Apache-2.0
"""A stale site comes back: before its replicated disks are written to, its peers are asked who is active."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor, as_completed
from concurrent.futures import TimeoutError as FuturesTimeout
from typing import Any

from django.db import close_old_connections

from dataprotection.choices import Mode, StaleState
from dataprotection.models import ProtectionDomain
from dataprotection.services import domains, gating, phases, targets
from dataprotection.states import Phase
from prism.core.engine import engine
from prism.core.exceptions import Refused
from prism.core.models import Alert
from prism.core.services import alerts
from replication.models import RemoteSite
from replication.rpc import client
from stargate.errors import StargateError

log = logging.getLogger(__name__)

ASK_SECONDS = 20.0
"""For all questions together: below the 30 s after which the engine opens its gates by itself."""
WORKERS_MAX = 16
TWICE = "active_on_multiple_sites"
"""The alert of a domain that two sites serve."""
NOT_BELIEVED = "activation_not_believed"


def check_all() -> None:
    """At the start of Cerebro: ask, then open or close the gates. Bounded by ASK_SECONDS, whatever the peers do."""
    jobs = [(domain, site) for domain in _active_domains() for site in gating.peers_of(domain)]
    answers: dict[Any, list[tuple[RemoteSite, dict[str, Any] | None]]] = {}
    pool = ThreadPoolExecutor(max_workers=WORKERS_MAX)
    futures = {pool.submit(_ask, domain, site): (domain, site) for domain, site in jobs}
    try:
        for future in as_completed(futures, timeout=ASK_SECONDS):
            domain, site = futures[future]
            answers.setdefault(domain.pk, []).append((site, future.result()))
    except FuturesTimeout:
        log.warning("not all peers answered within %s s", ASK_SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    for domain in _active_domains():
        if gating.peers_of(domain):
            _conclude(domain, answers.get(domain.pk, []))


def check_again() -> None:
    """Every minute: domains whose peers did not answer, or which are known to be active twice, here or there."""
    twice = Alert.objects.filter(kind=TWICE, resolved_at__isnull=True).values_list("object_id", flat=True)
    for domain in _active_domains():
        if domain.stale_state != StaleState.NONE or str(domain.uuid) in set(twice):
            check(domain)


def check(domain: ProtectionDomain) -> None:
    """Ask the peers of one domain now, and draw the conclusion."""
    _conclude(domain, [(site, _ask(domain, site)) for site in gating.peers_of(domain)])


def compare(domain: ProtectionDomain, site: RemoteSite, state: dict[str, Any]) -> bool:
    """Draw the conclusion from one peer's word. True when our side must not be written to.

    Equal generations mean that both sides were activated without knowing of each other: neither is right by itself, so
    both stop being written to until an operator deactivates one. What is not believed changes nothing here.
    """
    if not _believed(domain, site, state):
        return False
    theirs = int(state.get("mode_generation", 0))
    ProtectionDomain.objects.filter(pk=domain.pk, generation_seen__lt=theirs).update(generation_seen=theirs)
    if state.get("mode") != Mode.ACTIVE or domain.mode != Mode.ACTIVE or domain.phase != Phase.ACTIVE:
        return False
    stale = theirs >= domain.mode_generation
    who = "the data here is stale" if stale else f"the data on {site.name} is stale"
    if theirs == domain.mode_generation:
        who = "both sides were activated apart from each other; deactivate the one whose data is not wanted"
    alerts.raise_alert(
        TWICE,
        f"{domain.name} is active here and on {site.name}; {who}.",
        object_type=domains.TYPE,
        object_name=domain.name,
        object_id=domain.uuid,
    )
    if stale:
        values = {"stale_state": StaleState.ACTIVE_ELSEWHERE, "peer_active_site": site.name}
        ProtectionDomain.objects.filter(pk=domain.pk).update(**values)
        _gate(domain, "readonly", f"the protection domain is active on {site.name}")
    return stale


def disbelieve(domain: ProtectionDomain, site: RemoteSite, why: str) -> None:
    """Tell the operators; nobody else can know whether the site lies."""
    alerts.raise_alert(
        NOT_BELIEVED,
        f"What {site.name} says of {domain.name} is not believed: {why}.",
        object_type=domains.TYPE,
        object_name=domain.name,
        object_id=domain.uuid,
    )


def _conclude(domain: ProtectionDomain, answers: list[tuple[RemoteSite, dict[str, Any] | None]]) -> None:
    known = [(site, state) for site, state in answers if state is not None and _believed(domain, site, state)]
    twice = [(site, state) for site, state in known if state.get("mode") == Mode.ACTIVE]
    verdicts = [_compare_and_tell(domain, site, state) for site, state in twice]
    if any(verdicts):
        return
    unanswered = len(known) < len(gating.peers_of(domain))
    if domain.stale_state == StaleState.ACTIVE_ELSEWHERE and unanswered:
        return  # what one site said is not taken back because it is silent now
    verdict = StaleState.UNCONFIRMED if unanswered else StaleState.NONE
    ProtectionDomain.objects.filter(pk=domain.pk).update(stale_state=verdict, peer_active_site="")
    if not twice and not unanswered:
        alerts.clear(TWICE, object_type=domains.TYPE, object_name=domain.name, object_id=domain.uuid)
    _gate(domain, "open", "" if verdict == StaleState.NONE else "unconfirmed")


def _believed(domain: ProtectionDomain, site: RemoteSite, state: dict[str, Any]) -> bool:
    """An answer that is not counts as none."""
    theirs = state.get("mode_generation", 0)
    if phases.believable(domain, theirs):
        return True
    disbelieve(domain, site, f"generation {str(theirs)[:40]!r}, here it is {domain.mode_generation}")
    return False


def _compare_and_tell(domain: ProtectionDomain, site: RemoteSite, state: dict[str, Any]) -> bool:
    stale = compare(domain, site, state)
    payload = {"domain": str(domain.uuid), "mode_generation": domain.mode_generation}
    try:
        client.call(site, "announce_active", payload, timeout=5.0)
    except Refused as error:
        log.info("%s was not told about %s: %s", site.name, domain.name, error)
    return stale


def _ask(domain: ProtectionDomain, site: RemoteSite) -> dict[str, Any] | None:
    """None = no answer. Runs in a thread of its own."""
    try:
        return targets.domain_state(domain, site)
    except Refused as error:
        log.info("%s does not say whether %s is active there: %s", site.name, domain.name, error)
        return None
    finally:
        close_old_connections()


def _gate(domain: ProtectionDomain, gate: str, reason: str) -> None:
    keys = gating.disk_ids(domain)
    if not keys:
        return
    try:
        engine().set_gate(keys, gate, reason=reason)
    except StargateError as error:
        log.warning("the gate of %s was not set to %s: %s", domain.name, gate, error)


def _active_domains() -> Any:
    return ProtectionDomain.objects.filter(phase=Phase.ACTIVE, marked_for_removal=False)
