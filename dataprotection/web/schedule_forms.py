# SPDX-License-Identifier: Apache-2.0
"""The schedule form: when, how many are kept here, how many on each remote site; and the next runs it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.utils import timezone

from dataprotection.choices import ScheduleType
from dataprotection.models import Schedule
from dataprotection.services.grid import interval, next_due
from dataprotection.services.retention_forecast import Keeping
from dataprotection.services.schedules import ScheduleSpec
from prism.webkit.times import relative, span
from replication.models import RemoteSite

RUNS_SHOWN = 5
NEARSYNC_MAX_MINUTES = 15
ASYNC_MIN_MINUTES = 60
KEEP_MAX = 1000
LOCAL_FORMAT = "%Y-%m-%d %H:%M"
MOMENT_FORMATS = [LOCAL_FORMAT, "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
MOMENT_LIKE = "2026-11-24 08:30"
SHOWN_FORMAT = "%Y-%m-%d %H:%M %Z"


def interval_refusal(kind: str, every_nth: int) -> str:
    """Why this interval cannot be; "" when it can. The service refuses the same."""
    if kind != ScheduleType.MINUTELY or every_nth >= ASYNC_MIN_MINUTES:
        return ""
    if every_nth <= NEARSYNC_MAX_MINUTES:
        return "1 to 15 minutes needs NearSync, which is not in this release. Choose 60 minutes or more."
    return (
        "16 to 59 minutes is not possible: 15 minutes and less is NearSync, 60 minutes and more is async. "
        "Choose 60 minutes or more."
    )


@dataclass
class _Grid:
    """What `next_due` reads."""

    type: str
    every_nth: int
    start_at: datetime
    end_at: datetime | None
    timezone: str


@dataclass(frozen=True)
class Run:
    """One coming snapshot, and its time in the schedule's zone and in UTC as text."""

    at: datetime
    there: str
    utc: str

    @property
    def relative(self) -> str:
        """How far away it is."""
        return relative(self.at)


def moment_field(label: str = "") -> forms.DateTimeField:
    """A date with time of day, written as all times of the console are; the form puts the zone."""
    attrs = {"class": "moment", "placeholder": "YYYY-MM-DD HH:MM", "autocomplete": "off"}
    return forms.DateTimeField(
        label=label,
        required=False,
        widget=forms.DateTimeInput(attrs=attrs, format=LOCAL_FORMAT),
        input_formats=MOMENT_FORMATS,
        error_messages={"invalid": f"Enter a valid date and time, like {MOMENT_LIKE}."},
    )


class ScheduleForm(forms.Form):
    every_nth = forms.IntegerField(label="Repeat every", min_value=1, max_value=10000, initial=1)
    type = forms.ChoiceField(
        label="Unit", choices=[(t.value, t.label.lower()) for t in ScheduleType], initial=ScheduleType.HOURLY
    )
    timezone = forms.CharField(
        label="Time zone", max_length=64, help_text="Days follow its wall clock. For example UTC or Europe/Berlin."
    )
    start_at = moment_field()
    ends = forms.BooleanField(label="End on", required=False)
    end_at = moment_field()
    app_consistent = forms.BooleanField(
        label="Create application consistent snapshot",
        required=False,
        help_text="The wish is stored; snapshots are crash consistent until guest tools exist, and an alert says so.",
    )
    local_ticked = forms.BooleanField(label="Local", required=False, initial=True)
    local_keep = forms.IntegerField(label="Keep the last", min_value=1, max_value=KEEP_MAX, initial=1, required=False)

    def __init__(self, *args: Any, sites: Sequence[RemoteSite], zone: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sites = list(sites)
        self.fields["timezone"].initial = zone
        self.fields["start_at"].label = "Start on"
        self.fields["start_at"].help_text = "Empty: now."
        self.fields["end_at"].label = "Last day and time"
        for site in self.sites:
            self.fields[f"site_{site.pk}"] = forms.BooleanField(label=site.name, required=False)
            self.fields[f"keep_{site.pk}"] = forms.IntegerField(
                label="Keep the last", min_value=1, max_value=KEEP_MAX, initial=1, required=False
            )

    @property
    def site_lines(self) -> list[tuple[RemoteSite, Any, Any]]:
        """Site, tick and count, one line per remote site."""
        return [(site, self[f"site_{site.pk}"], self[f"keep_{site.pk}"]) for site in self.sites]

    def clean_timezone(self) -> str:
        name = str(self.cleaned_data["timezone"]).strip()
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise forms.ValidationError("There is no such time zone. Write it like UTC or Europe/Berlin.") from None
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if data.get("type") and data.get("every_nth"):
            refusal = interval_refusal(data["type"], data["every_nth"])
            if refusal:
                self.add_error("every_nth", refusal)
        zone = ZoneInfo(data.get("timezone") or "UTC")
        for name in ("start_at", "end_at"):
            if data.get(name):
                data[name] = data[name].replace(tzinfo=zone)
        self._check_end(data)
        self._check_retention(data)
        return data

    def _check_end(self, data: dict[str, Any]) -> None:
        if not data.get("ends"):
            data["end_at"] = None
        elif not data.get("end_at"):
            self.add_error("end_at", "Enter when it ends, or untick End on.")
        elif data["end_at"] <= (data.get("start_at") or timezone.now()):
            self.add_error("end_at", "The end lies before the start. Choose a later end.")

    def _check_retention(self, data: dict[str, Any]) -> None:
        remotes = {}
        for site in self.sites:
            if data.get(f"site_{site.pk}"):
                remotes[site.pk] = data.get(f"keep_{site.pk}") or 1
        data["remotes"] = remotes
        if not data.get("local_ticked") and not remotes:
            self.add_error("local_ticked", "Tick Local or a remote site: otherwise nothing would be kept.")

    def spec(self) -> ScheduleSpec:
        """What the service takes; after `is_valid()`."""
        data = self.cleaned_data
        return ScheduleSpec(
            type=data["type"],
            every_nth=data["every_nth"],
            start_at=data["start_at"],
            end_at=data["end_at"],
            timezone=data["timezone"],
            app_consistent=data["app_consistent"],
            local_keep=data["local_keep"] or 1,
            local_ticked=data["local_ticked"],
            remotes=data["remotes"],
        )

    def next_runs(self) -> list[Run]:
        """The next runs of a valid form; the first snapshot is taken at once, so it comes before them."""
        data = self.cleaned_data
        now = timezone.now()
        grid = _Grid(data["type"], data["every_nth"], data["start_at"] or now, data["end_at"], data["timezone"])
        runs: list[Run] = []
        due = next_due(grid, now)
        while due is not None and len(runs) < RUNS_SHOWN:
            there = due.astimezone(ZoneInfo(data["timezone"]))
            runs.append(Run(due, f"{there:{SHOWN_FORMAT}}", f"{due.astimezone(UTC):{SHOWN_FORMAT}}"))
            due = next_due(grid, due)
        return runs

    def keeping(self) -> Keeping | None:
        """What this site keeps of it, for the forecast; None: nothing."""
        data = self.cleaned_data
        if not data["local_ticked"]:
            return None
        now = timezone.now()
        start = data["start_at"] or now
        grid = _Grid(data["type"], data["every_nth"], start, data["end_at"], data["timezone"])
        return Keeping(grid, data["local_keep"] or 1, max(start, now))

    def kept_text(self) -> str:
        """What the local retention means in time."""
        data = self.cleaned_data
        if not data["local_ticked"]:
            return "The local snapshot is kept only as the base of the next replication."
        grid = _Grid(data["type"], data["every_nth"], timezone.now(), None, data["timezone"])
        seconds = interval(grid).total_seconds() * (data["local_keep"] or 1)
        return f"A local snapshot expires {span(seconds)} after it was taken."


def initial_of(schedule: Schedule) -> dict[str, Any]:
    """Form values of a stored schedule."""
    zone = ZoneInfo(schedule.timezone)
    values: dict[str, Any] = {
        "every_nth": schedule.every_nth,
        "type": schedule.type,
        "timezone": schedule.timezone,
        "start_at": schedule.start_at.astimezone(zone).replace(tzinfo=None),
        "ends": schedule.end_at is not None,
        "end_at": schedule.end_at.astimezone(zone).replace(tzinfo=None) if schedule.end_at else None,
        "app_consistent": schedule.app_consistent,
        "local_ticked": schedule.local_ticked,
        "local_keep": schedule.local_keep,
    }
    for remote in schedule.remotes.all():
        values[f"site_{remote.site_id}"] = True
        values[f"keep_{remote.site_id}"] = remote.keep
    return values


def zone_name(zone: object) -> str:
    """The name of the user's zone."""
    return "UTC" if zone is UTC else str(getattr(zone, "key", "UTC"))
