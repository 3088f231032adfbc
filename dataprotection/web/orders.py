# SPDX-License-Identifier: Apache-2.0
"""Dialogs of a protection domain: Take Snapshot, Migrate, Activate, Deactivate, Delete."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone

from dataprotection.models import ProtectionDomain, Snapshot
from dataprotection.services import activation
from dataprotection.services import domains as domain_services
from dataprotection.services import migrate as migrate_services
from dataprotection.services import snapshots as snapshot_services
from dataprotection.web.panes import snapshots_of
from dataprotection.web.reasons import migrate_targets
from dataprotection.web.schedule_forms import moment_field, zone_name
from prism.core.models import Task
from prism.webkit.access import operator
from prism.webkit.orders import Done, actor_of, order_page, posted
from prism.webkit.times import absolute, relative, zone_of
from replication.models import RemoteSite

HOUR, DAY = 3600, 86400
STARTS = [("", "Now"), ("3600", "In 1 hour"), ("10800", "In 3 hours"), ("43200", "In 12 hours"), ("86400", "In 1 day")]
RETENTIONS = [
    ("", "No Expiration"),
    (str(HOUR), "1 hour"),
    (str(6 * HOUR), "6 hours"),
    (str(DAY), "1 day"),
    (str(7 * DAY), "1 week"),
    (str(30 * DAY), "30 days"),
    (str(90 * DAY), "90 days"),
    (str(365 * DAY), "1 year"),
]
CUSTOM = "custom"
CUSTOM_CHOICE = (CUSTOM, "Custom ...")
UNITS = [(str(HOUR), "hours"), (str(DAY), "days"), (str(7 * DAY), "weeks")]


def paired_sites() -> list[RemoteSite]:
    """Sites that snapshots can go to."""
    return [site for site in RemoteSite.objects.order_by("name") if site.is_paired]


def _domain(uuid: UUID) -> ProtectionDomain:
    return get_object_or_404(ProtectionDomain, pk=uuid)


def _context(domain: ProtectionDomain, **more: Any) -> dict[str, Any]:
    return {"nav": "Data Protection", "domain": domain, "back": reverse("dp:domain", args=[domain.pk]), **more}


def task_url(task: Task | None, default: str) -> str:
    """Where an order's progress is shown."""
    return reverse("console:task", args=[task.pk]) if task is not None else default


class TakeSnapshotForm(forms.Form):
    use_required_attribute = False  # the fields below "Custom" count only when it is chosen

    local = forms.BooleanField(label="LOCAL", required=False, initial=True)
    sites = forms.MultipleChoiceField(label="REMOTE SITES", required=False, widget=forms.CheckboxSelectMultiple)
    start = forms.ChoiceField(label="REPLICATION START TIME", choices=[*STARTS, CUSTOM_CHOICE], required=False)
    start_at = moment_field("Start on")
    retention = forms.ChoiceField(label="RETENTION TIME", choices=[*RETENTIONS, CUSTOM_CHOICE], required=False)
    keep_count = forms.IntegerField(label="Keep for", min_value=1, max_value=100_000, required=False)
    keep_unit = forms.ChoiceField(label="Unit", choices=UNITS, required=False, initial=str(DAY))
    app_consistent = forms.BooleanField(
        label="Create application consistent snapshot",
        required=False,
        help_text="Stored as your wish; without guest tools the snapshot is crash consistent and an alert says so.",
    )

    def __init__(self, *args: Any, sites: list[RemoteSite], zone: tzinfo, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zone = zone
        self.fields["start_at"].help_text = f"In the time zone {zone_name(zone)}."
        field = self.fields["sites"]
        if isinstance(field, forms.MultipleChoiceField):
            field.choices = [(str(site.pk), site.name) for site in sites]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if not data.get("local") and not data.get("sites"):
            self.add_error("local", "Tick LOCAL or a remote site.")
        self._check_custom(data)
        return data

    def _check_custom(self, data: dict[str, Any]) -> None:
        if data.get("start") == CUSTOM and "start_at" not in self.errors:
            at = data["start_at"].replace(tzinfo=self.zone) if data.get("start_at") else None
            if at is None or at <= timezone.now():
                self.add_error("start_at", "Enter a time that lies ahead, or choose Now.")
            data["start_at"] = at
        if data.get("retention") == CUSTOM and "keep_count" not in self.errors and not data.get("keep_count"):
            self.add_error("keep_count", "Enter how long it is kept, or choose No Expiration.")

    @property
    def run_at(self) -> datetime | None:
        """When it starts, None for now; after `is_valid()`."""
        chosen = self.cleaned_data["start"]
        if chosen == CUSTOM:
            at: datetime = self.cleaned_data["start_at"]
            return at
        return timezone.now() + timedelta(seconds=int(chosen)) if chosen else None

    @property
    def retention_seconds(self) -> int | None:
        """How long it is kept, None without expiration; after `is_valid()`."""
        chosen = self.cleaned_data["retention"]
        if chosen == CUSTOM:
            return int(self.cleaned_data["keep_count"]) * int(self.cleaned_data["keep_unit"] or DAY)
        return int(chosen) if chosen else None


@operator
def take_snapshot(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Replicate Protection Domain: one snapshot, now or later."""
    domain, sites = _domain(uuid), paired_sites()
    back = reverse("dp:domain", args=[uuid])

    def order(data: dict[str, Any], key: str) -> Done:
        chosen = [site for site in sites if str(site.pk) in data["sites"]]
        start = form.run_at
        ordered = snapshot_services.take(
            domain,
            local=data["local"],
            sites=chosen,
            run_at=start,
            retention_seconds=form.retention_seconds,
            app_consistent=data["app_consistent"],
            idempotency_key=key,
            actor=actor_of(request),
        )
        if start is not None:
            return Done(f"{back}?tab=schedules", f"A snapshot will be taken {relative(start)}.")
        return Done(task_url(ordered.task, back), f"A snapshot of {domain.name} is being taken.")

    form = TakeSnapshotForm(posted(request), sites=sites, zone=zone_of(request))
    return order_page(
        request, "dataprotection/take_snapshot.html", form, order, _context(domain, sites=sites), again_url=back
    )


class MigrateForm(forms.Form):
    site = forms.ChoiceField(
        label="Select Site", widget=forms.RadioSelect, error_messages={"required": "Select the site to migrate to."}
    )
    confirm = forms.CharField(
        label="Type MIGRATE to confirm",
        max_length=20,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, *args: Any, sites: list[RemoteSite], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["site"]
        if isinstance(field, forms.ChoiceField):
            field.choices = [(str(site.pk), site.name) for site in sites]

    def clean_confirm(self) -> str:
        if self.cleaned_data["confirm"].strip() != "MIGRATE":
            raise forms.ValidationError("Type MIGRATE in capital letters.")
        return "MIGRATE"


@operator
def migrate(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Controlled failover to another site."""
    domain, sites = _domain(uuid), migrate_targets(paired_sites())
    back = reverse("dp:domain", args=[uuid])

    def order(data: dict[str, Any], key: str) -> Done:
        site = next(site for site in sites if str(site.pk) == data["site"])
        task = migrate_services.migrate(domain, site=site, idempotency_key=key, actor=actor_of(request))
        return Done(task_url(task, back), f"{domain.name} is being migrated to {site.name}.")

    form = MigrateForm(posted(request), sites=sites)
    context = _context(domain, sites=sites, entities=domain.entities.count())
    return order_page(request, "dataprotection/migrate.html", form, order, context, again_url=back)


class ActivateForm(forms.Form):
    snapshot = forms.ChoiceField(label="Snapshot", required=False)
    confirm = forms.BooleanField(
        label="I know that what was written after this snapshot is not in it, and that the other site is not asked.",
        error_messages={"required": "Confirm it: an activation cannot be undone by itself."},
    )

    def __init__(self, *args: Any, snapshots: list[Snapshot], zone: tzinfo, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["snapshot"]
        if isinstance(field, forms.ChoiceField):
            made = [
                (str(s.pk), f"{s.display_id}, {absolute(s.created_at, zone)}, {relative(s.created_at)}")
                for s in snapshots
            ]
            field.choices = [("", "Newest complete snapshot"), *made]


@operator
def activate(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Unplanned failover, given on the inactive side."""
    domain = _domain(uuid)
    points = list(snapshots_of(domain, include_expired=False).order_by("-created_at")[:50])
    back = reverse("dp:domain", args=[uuid])

    def order(data: dict[str, Any], key: str) -> Done:
        chosen = next((point for point in points if str(point.pk) == data["snapshot"]), None)
        task = activation.activate(domain, snapshot=chosen, idempotency_key=key, actor=actor_of(request))
        return Done(task_url(task, back), f"{domain.name} is being activated on this site.")

    form = ActivateForm(posted(request), snapshots=points, zone=zone_of(request))
    return order_page(
        request,
        "dataprotection/activate.html",
        form,
        order,
        _context(domain, newest=points[0] if points else None),
        again_url=back,
    )


class TypedNameForm(forms.Form):
    """For what destroys: the operator types the name."""

    confirm = forms.CharField(
        label="Type the name to confirm", max_length=200, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def __init__(self, *args: Any, name: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = name
        self.fields["confirm"].label = f"Type {name} to confirm"

    def clean_confirm(self) -> str:
        if self.cleaned_data["confirm"].strip() != self.name:
            raise forms.ValidationError(f"This is not the name. Type {self.name}.")
        return self.name


@operator
def deactivate(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Stop serving here and remove the entities; a snapshot of their last state is kept."""
    domain = _domain(uuid)
    back = reverse("dp:domain", args=[uuid])

    def order(_data: dict[str, Any], key: str) -> Done:
        task = activation.deactivate(domain, idempotency_key=key, actor=actor_of(request))
        return Done(task_url(task, back), f"{domain.name} is being deactivated on this site.")

    form = TypedNameForm(posted(request), name=domain.name)
    context = _context(
        domain, members=list(domain.entities.select_related("group")[:50]), entities=domain.entities.count()
    )
    return order_page(request, "dataprotection/deactivate.html", form, order, context, again_url=back)


@operator
def delete(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """The domain goes; its entities stay, unprotected."""
    domain = _domain(uuid)

    def order(_data: dict[str, Any], _key: str) -> Done:
        domain_services.delete(domain, actor=actor_of(request))
        return Done(
            reverse("dp:domains"), f"{domain.name} is marked for removal; it disappears when its clean-up is done."
        )

    form = TypedNameForm(posted(request), name=domain.name)
    context = _context(
        domain,
        entities=domain.entities.count(),
        schedules=domain.schedules.count(),
        snapshots=Snapshot.objects.filter(domain=domain, hidden_base=False).count(),
    )
    return order_page(request, "dataprotection/delete.html", form, order, context, again_url=reverse("dp:domains"))
