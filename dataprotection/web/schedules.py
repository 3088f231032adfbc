# SPDX-License-Identifier: Apache-2.0
"""New Schedule, change, remove, and the preview of the next runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from dataprotection.models import OneTimeSnapshot, ProtectionDomain, Schedule
from dataprotection.services import retention
from dataprotection.services import schedules as schedule_services
from dataprotection.services import snapshots as snapshot_services
from dataprotection.web.schedule_forms import ScheduleForm, initial_of, zone_name
from prism.webkit.access import operator
from prism.webkit.orders import SEEN_FIELD, Done, actor_of, order_page, posted, press
from prism.webkit.pages import back_url, show
from prism.webkit.times import zone_of
from replication.models import RemoteSite

TEMPLATE = "dataprotection/schedule_form.html"


def _form(request: HttpRequest, initial: dict[str, Any] | None = None) -> ScheduleForm:
    sites = [site for site in RemoteSite.objects.order_by("name") if site.is_paired]
    zone = zone_name(zone_of(request))
    return ScheduleForm(posted(request), initial=initial or {}, sites=sites, zone=zone)


def _back(request: HttpRequest, domain: ProtectionDomain) -> str:
    return back_url(request, reverse("dp:wizard-schedules", args=[domain.pk]))


def _page(
    request: HttpRequest, domain: ProtectionDomain, form: ScheduleForm, schedule: Schedule | None
) -> HttpResponse:
    back = _back(request, domain)
    context: dict[str, Any] = {
        "nav": "Data Protection",
        "step": 3,
        "domain": domain,
        "schedule": schedule,
        "back": back,
    }
    if "preview" in request.POST:
        context |= _previewed(form, domain, schedule)
        context["seen"] = request.POST.get(SEEN_FIELD, "")
        return show(request, TEMPLATE, {**context, "form": form}, status=200 if form.is_valid() else 422)

    def order(_data: dict[str, Any], _key: str) -> Done:
        if schedule is None:
            schedule_services.add(domain, form.spec(), actor=actor_of(request))
            return Done(back, "The schedule was created. Its first snapshot is taken when it starts.")
        schedule_services.change(schedule, form.spec(), actor=actor_of(request))
        return Done(back, "The schedule was changed. It holds for the next snapshot; the expiry of those taken stays.")

    return order_page(request, TEMPLATE, form, order, context, again_url=back)


@operator
def new(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """New Schedule -> Create Schedule."""
    domain = get_object_or_404(ProtectionDomain, pk=uuid)
    return _page(request, domain, _form(request), None)


@operator
def change(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """The same form over a stored schedule."""
    schedule = get_object_or_404(Schedule.objects.select_related("domain").prefetch_related("remotes"), pk=uuid)
    return _page(request, schedule.domain, _form(request, initial_of(schedule)), schedule)


@require_POST
@operator
def preview(request: HttpRequest) -> HttpResponse:
    """The next runs of what stands in the form now, or why there are none."""
    form = _form(request)
    domain = _named(ProtectionDomain, request.POST.get("domain", ""))
    schedule = _named(Schedule, request.POST.get("schedule", ""))
    return show(request, "dataprotection/_schedule_preview.html", {"form": form, **_previewed(form, domain, schedule)})


def _named(model: type[Any], key: str) -> Any:
    try:
        return model._default_manager.filter(pk=UUID(key)).first()
    except ValueError:
        return None


def _previewed(form: ScheduleForm, domain: ProtectionDomain | None, schedule: Schedule | None) -> dict[str, Any]:
    """The next runs, and what this site will have kept of the domain with them."""
    if not form.is_valid():
        return {"preview": None}
    found: dict[str, Any] = {"preview": form}
    if domain is not None and domain.active:
        replaced = schedule.pk if schedule is not None else None
        found["outlooks"] = retention.outlook(domain, timezone.now(), wanted=form.keeping(), replaced=replaced)
    return found


@require_POST
@operator
def suspend(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Suspend or Resume: `suspended` of the form says which."""
    schedule = get_object_or_404(Schedule.objects.select_related("domain"), pk=uuid)
    suspended = request.POST.get("suspended") == "1"

    def order(_key: str) -> str:
        schedule_services.suspend(schedule, suspended=suspended, actor=actor_of(request))
        return "The schedule is suspended: it takes no snapshots." if suspended else "The schedule goes on."

    return press(request, _back(request, schedule.domain), order)


@require_POST
@operator
def cancel(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Give up a one-time snapshot that lies ahead."""
    one_time = get_object_or_404(OneTimeSnapshot.objects.select_related("domain"), pk=uuid)

    def order(_key: str) -> str:
        snapshot_services.cancel(one_time, actor=actor_of(request))
        return "The snapshot was cancelled; none will be taken."

    return press(request, reverse("dp:domain", args=[one_time.domain_id]) + "?tab=schedules", order)


@operator
def remove(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Its snapshots stay until they expire."""
    schedule = get_object_or_404(Schedule.objects.select_related("domain").prefetch_related("remotes__site"), pk=uuid)
    back = _back(request, schedule.domain)

    def order(_data: dict[str, Any], _key: str) -> Done:
        schedule_services.remove(schedule, actor=actor_of(request))
        return Done(back, "The schedule was removed. Snapshots taken by it stay until they expire.")

    context = {"nav": "Data Protection", "domain": schedule.domain, "schedule": schedule, "back": back}
    return order_page(
        request, "dataprotection/schedule_remove.html", forms.Form(posted(request)), order, context, again_url=back
    )
