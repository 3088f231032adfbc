# SPDX-License-Identifier: Apache-2.0
"""Every route of the site with the rule that is meant to hold there. A route that is not here fails the matrix.

Written by hand on purpose: it says what is wanted, `test_matrix.py` compares it with what the code does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.urls import URLPattern, URLResolver, get_resolver


class Rule(NamedTuple):
    """Roles that get in: for GET, and for everything that may change something."""

    read: frozenset[str]
    change: frozenset[str]


_ALL = frozenset({"viewer", "operator", "admin"})
_ACTING = frozenset({"operator", "admin"})
_ADMIN = frozenset({"admin"})
_ANYBODY = _ALL | {"anonymous"}

PUBLIC = Rule(_ANYBODY, _ANYBODY)
OWN = Rule(_ALL, _ALL)
READ = Rule(_ALL, _ACTING)
OPERATE = Rule(_ACTING, _ACTING)
ADMIN = Rule(_ADMIN, _ADMIN)

DECLARED: dict[Rule, str] = {
    PUBLIC: """
        healthz readyz no-such-address admin-password
        console:sign-in console:sign-in-code console:sign-out console:theme""",
    OWN: """
        console:account console:password console:sessions-end console:session-end
        console:second-factor-on console:second-factor-off console:recovery-codes
        session-list session-detail
        console:tokens console:token-new console:token-revoke token-list token-detail
        console:home console:bar console:search console:shortcuts console:tasks console:task console:drawer
        console:alerts console:events console:audit console:integrity console:nbd-clients
        dp:domains dp:overview dp:domain dp:snapshot dp:recovery dp:vms dp:vm dp:volume-groups dp:volume-group
        dp:files dp:file dp:containers rep:sites rep:site""",
    READ: """
        schema site integrity task-list task-detail event-list event-detail measurement-list alert-list alert-detail
        audit-list audit-detail integrity-scrub alert-acknowledge alert-resolve nbd-client-list nbd-client-detail
        remote-site-list remote-site-pair remote-site-pairing-code remote-site-detail remote-site-test
        remote-site-unpair replication-list replication-detail replication-abort replication-pause replication-resume
        container-list container-detail vm-list vm-detail vm-add-disk vm-add-nic vm-remove-nic volume-group-list
        volume-group-detail volume-group-add-disk volume-group-attach volume-group-detach file-list file-upload
        file-detail disk-list disk-detail disk-import-image disk-move disk-reopen disk-resize disk-write-through
        protection-domain-list protection-domain-detail protection-domain-activate protection-domain-add-schedule
        protection-domain-change-group protection-domain-deactivate protection-domain-migrate
        protection-domain-protect protection-domain-take-snapshot protection-domain-unprotect
        schedule-list schedule-detail schedule-suspend snapshot-list snapshot-what-if snapshot-detail
        snapshot-changed-ranges snapshot-clone snapshot-recoverability snapshot-restore snapshot-retain
        one-time-snapshot-list one-time-snapshot-detail kept-state-list kept-state-detail kept-state-bring-back""",
    OPERATE: """
        file-download disk-export-image snapshot-export-disk
        console:alert-acknowledge console:alert-resolve console:scrub console:kept-bring-back console:kept-delete
        console:nbd-client-new console:nbd-client-revoke
        dp:wizard-name dp:wizard-entities dp:protect-container dp:unprotect dp:wizard-schedules dp:schedule-new
        dp:take-snapshot dp:migrate dp:activate dp:deactivate dp:delete dp:group dp:one-time-cancel
        dp:schedule-preview dp:schedule dp:schedule-suspend dp:schedule-remove dp:snapshot-disk dp:restore
        dp:snapshot-retain dp:snapshot-delete dp:vm-new dp:vm-edit dp:vm-delete dp:nic-new dp:vm-disk-new
        dp:nic-remove dp:volume-group-new dp:volume-group-edit dp:volume-group-delete dp:volume-group-attach
        dp:volume-group-detach dp:volume-group-disk-new dp:disk-resize dp:disk-reopen dp:disk-write-through
        dp:disk-move dp:disk-remove dp:disk-import dp:disk-export dp:file-new dp:file-download dp:file-delete
        dp:container-new dp:container-edit dp:container-delete
        rep:site-new rep:pairing-code rep:pair rep:site-edit rep:site-test rep:site-delete rep:replication-order""",
    ADMIN: """
        user-list user-detail user-reset-password user-unlock user-second-factor-off user-revoke-tokens
        user-end-sessions user-sessions
        admin-sign-in console:users console:user-new console:user console:user-role
        console:user-reset-password console:user-order""",
}
RULES: dict[str, Rule] = {name: rule for rule, names in DECLARED.items() for name in names.split()}
# Behind one gate of Django's: all of it is for administrators, and it is for looking.
ADMIN_SITE_PUBLIC = {"admin:logout", "admin:login"}
NOBODY = Rule(frozenset(), frozenset())
LOOK = Rule(_ADMIN, frozenset())


class Route(NamedTuple):
    """`methods` are those besides GET that the view has; `address` names objects that do not exist."""

    name: str
    address: str
    methods: tuple[str, ...]


def routes() -> Iterator[Route]:
    """All that the resolver knows, once each."""
    seen: set[str] = set()
    for name, pattern, actions in _walk(get_resolver().url_patterns, "", ""):
        address = _address(pattern)
        if address not in seen:
            seen.add(address)
            unsafe = tuple(method for method in actions if method not in {"get", "head", "options"}) or ("post",)
            yield Route(name, address, unsafe)


def rule_of(route: Route) -> Rule | None:
    """None: nobody has said who may use it."""
    if route.name.startswith("admin:"):
        if route.name.endswith(("_add", "_delete", ":autocomplete")):
            return NOBODY
        if route.name.endswith("_change") and route.name != "admin:password_change":
            return LOOK
        return PUBLIC if route.name in ADMIN_SITE_PUBLIC else ADMIN
    return RULES.get(route.name)


def _walk(patterns: list[Any], prefix: str, space: str) -> Iterator[tuple[str, str, set[str]]]:
    for entry in patterns:
        here = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _walk(entry.url_patterns, here, entry.namespace or space)
        elif isinstance(entry, URLPattern):
            name = f"{space}:{entry.name}" if space else str(entry.name)
            yield name, here, set(getattr(entry.callback, "actions", None) or {})


def _address(pattern: str) -> str:
    values = {"uuid": "0f0f0f0f-0000-4000-8000-00000000000f", "int": "999999", "slug": "x", "str": "x", "path": "x"}
    text = re.sub(r"<(\w+):\w+>", lambda found: values[found[1]], pattern)
    text = re.sub(r"<\w+>", "x", re.sub(r"\(\?P<[^>]+>(?:[^()]|\([^()]*\))*\)", "1", text))
    return "/" + re.sub(r"[\^$\\]|\.\(.*$", "", text)
