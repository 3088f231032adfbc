# SPDX-License-Identifier: Apache-2.0
"""Every page of the console as an address; a test checks that no route is missing."""

from __future__ import annotations

import uuid

from django.urls import reverse

from tests.console.conftest import Rows

# Orders without a page: they answer POST only.
POST_ONLY = {
    "console:theme", "console:sign-out", "console:alert-acknowledge", "console:alert-resolve", "console:token-revoke",
    "console:session-end", "console:sessions-end", "console:user-order",
    "console:nbd-client-revoke", "console:scrub",
    "dp:schedule-preview", "dp:schedule-suspend", "dp:one-time-cancel", "dp:nic-remove", "dp:volume-group-detach",
    "rep:pairing-code", "rep:site-test", "rep:replication-order",
}  # fmt: skip
# Bytes from the engine: tested with the real engine.
ENGINE = {"dp:disk-export", "dp:snapshot-disk", "dp:file-download", "console:kept-bring-back", "console:kept-delete"}
PUBLIC = {"console:sign-in", "console:sign-in-code"}
# Orders on what is the user's own: readers may give them too.
OWN = {"console:theme", "console:sign-out", "console:token-revoke", "console:session-end", "console:sessions-end"}
# Pages for administrators alone, reading too.
ADMIN = {"console:users", "console:user-new", "console:user", "console:user-role", "console:user-reset-password"}
# What a read-only user may open, besides everything that is not listed in ACTING.
ACTING = {
    "dp:wizard-name", "dp:wizard-entities", "dp:wizard-schedules", "dp:protect-container", "dp:group",
    "dp:unprotect", "dp:schedule-new", "dp:schedule",
    "dp:schedule-remove", "dp:take-snapshot", "dp:migrate", "dp:activate", "dp:deactivate", "dp:delete", "dp:restore",
    "dp:snapshot-retain", "dp:snapshot-delete", "dp:vm-new", "dp:vm-edit", "dp:vm-delete", "dp:nic-new",
    "dp:vm-disk-new", "dp:volume-group-new", "dp:volume-group-edit", "dp:volume-group-delete",
    "dp:volume-group-attach", "dp:volume-group-disk-new", "dp:disk-resize", "dp:disk-move", "dp:disk-remove",
    "dp:disk-reopen", "dp:disk-write-through",
    "dp:disk-import", "dp:file-new", "dp:file-delete", "dp:container-new", "dp:container-edit", "dp:container-delete",
    "rep:site-new", "rep:pair", "rep:site-edit", "rep:site-delete", "console:nbd-client-new",
}  # fmt: skip


def _arguments(rows: Rows) -> dict[str, list[object]]:
    """Route name -> its argument, by the object it is about."""
    disk = rows.vm.disks.get().pk
    domain = ["domain", "protect-container", "wizard-entities", "unprotect", "wizard-schedules", "schedule-new",
              "take-snapshot", "migrate", "activate", "deactivate", "delete"]  # fmt: skip
    named: dict[object, list[str]] = {
        rows.domain.pk: domain,
        rows.snapshot.pk: ["snapshot", "recovery", "restore", "snapshot-retain", "snapshot-delete"],
        rows.schedule.pk: ["schedule", "schedule-remove"],
        rows.vm.pk: ["vm", "vm-edit", "vm-delete", "nic-new", "vm-disk-new"],
        rows.group.pk: ["volume-group", "volume-group-edit", "volume-group-delete", "volume-group-attach",
                        "volume-group-disk-new"],
        disk: ["disk-resize", "disk-move", "disk-remove", "disk-import", "disk-reopen", "disk-write-through"],
        rows.file.pk: ["file", "file-delete"],
        rows.container.pk: ["container-edit", "container-delete"],
    }  # fmt: skip
    found: dict[str, list[object]] = {f"dp:{name}": [key] for key, names in named.items() for name in names}
    found["dp:group"] = [rows.domain.groups.get().pk]
    found["console:task"] = [rows.task.pk]
    found.update({f"console:{name}": [rows.user.pk] for name in ("user", "user-role", "user-reset-password")})
    found.update({f"rep:{name}": [rows.site.uuid] for name in ("site", "site-edit", "site-delete")})
    return found


def routes() -> list[str]:
    """Names of all routes of the console."""
    from dataprotection.web import urls as dp_urls
    from prism.console import urls as console_urls
    from replication.web import urls as rep_urls

    modules = (console_urls, dp_urls, rep_urls)
    return [f"{module.app_name}:{pattern.name}" for module in modules for pattern in module.urlpatterns]


def pages(rows: Rows) -> dict[str, str]:
    """Route name -> address of every page that needs a signed-in user."""
    arguments = _arguments(rows)
    shown = [name for name in routes() if name not in POST_ONLY | ENGINE | PUBLIC]
    found = {name: reverse(name, args=arguments.get(name, [])) for name in shown}
    tabs = ["replications", "entities", "schedules", "local", "remote", "metrics", "alerts", "events"]
    found.update({f"tab {tab}": reverse("dp:domain", args=[rows.domain.pk]) + f"?tab={tab}" for tab in tabs})
    return found


def hidden(rows: Rows) -> dict[str, str]:
    """Route name -> address of what `pages` leaves out: orders without a page, and bytes."""
    key = uuid.uuid4()
    arguments: dict[str, list[object]] = {
        "console:alert-acknowledge": [rows.alert.pk],
        "console:alert-resolve": [rows.alert.pk],
        "console:token-revoke": [1],
        "console:session-end": [1],
        "console:user-order": [rows.user.pk, "disable"],
        "console:nbd-client-revoke": ["kvm1"],
        "console:kept-bring-back": [key],
        "console:kept-delete": [key],
        "dp:schedule-suspend": [rows.schedule.pk],
        "dp:one-time-cancel": [rows.domain.pk],
        "dp:nic-remove": [rows.vm.nics.get().pk],
        "dp:volume-group-detach": [rows.group.pk, rows.vm.pk],
        "dp:disk-export": [rows.vm.disks.get().pk],
        "dp:snapshot-disk": [rows.snapshot.pk, key],
        "dp:file-download": [rows.file.pk],
        "rep:site-test": [rows.site.uuid],
        "rep:replication-order": [rows.replication.uuid, "abort"],
    }
    return {name: reverse(name, args=arguments.get(name, [])) for name in POST_ONLY | ENGINE}
