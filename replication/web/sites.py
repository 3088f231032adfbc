# SPDX-License-Identifier: Apache-2.0
"""Remote sites: table, pairing by code, settings, Test Connection, delete."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST

from prism.core.exceptions import Refused
from prism.webkit.access import operator, reader
from prism.webkit.charts import chart_file
from prism.webkit.orders import Done, actor_of, order_page, posted, press, say
from prism.webkit.pages import is_fragment, show
from prism.webkit.tables import table
from replication.choices import Capability, Direction
from replication.models import RemoteSite
from replication.services import pairing, pairing_client, remote_sites
from replication.states import ReplicationState
from replication.web.charts import site_charts
from stargate.errors import StargateError

NAV = {"nav": "Data Protection"}
SORTS = {
    "name": "name",
    "capability": "capability",
    "status": "status",
    "latency": "latency_seconds",
    "out": "outbound",
    "in": "inbound",
}
CONTROL_PORT = 2020


def _running(direction: str) -> Q:
    return Q(replications__state=ReplicationState.RUNNING, replications__direction=direction)


@reader
def sites(request: HttpRequest) -> HttpResponse:
    """The Remote Site table."""
    rows = RemoteSite.objects.annotate(
        outbound=Count("replications", filter=_running(Direction.OUT)),
        inbound=Count("replications", filter=_running(Direction.IN)),
        tx=Sum("replications__rate_bytes_per_second", filter=_running(Direction.OUT), default=0),
        rx=Sum("replications__rate_bytes_per_second", filter=_running(Direction.IN), default=0),
    )
    template = "replication/_sites.html" if is_fragment(request) else "replication/sites.html"
    return show(
        request, template, {**NAV, "table": table(request, rows, sorts=SORTS, default="name", search=("name",))}
    )


@reader
def site(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """One site: relationship, fingerprints, addresses, mappings, and how the link does."""
    found = get_object_or_404(RemoteSite, uuid=uuid)
    waiting = found.replications.filter(state__in=[ReplicationState.RUNNING, ReplicationState.PENDING]).order_by(
        "-created_at"
    )[:20]
    drawn = site_charts(request, found)
    exported = chart_file(request, drawn["charts"], name=found.name)
    return exported or show(request, "replication/site.html", {**NAV, "site": found, "replications": waiting, **drawn})


@operator
def add(request: HttpRequest) -> HttpResponse:
    """+ Remote Site: choose who shows the code and who enters it."""
    return show(request, "replication/add.html", {**NAV, "form": PairForm(), "back": reverse("rep:sites")})


@require_POST
@operator
def show_code(request: HttpRequest) -> HttpResponse:
    """Open this site for one other site. The code is on the answer itself and nowhere else."""
    try:
        offer = pairing.start_pairing(actor=actor_of(request))
    except (Refused, StargateError, OSError) as error:
        text = (
            say(error)
            if not isinstance(error, OSError)
            else "This site has no identity yet: its certificate cannot be read."
        )
        return show(
            request,
            "replication/add.html",
            {**NAV, "form": PairForm(), "error": text, "back": reverse("rep:sites")},
            status=422,
        )
    return show(request, "replication/code.html", {**NAV, "offer": offer, "back": reverse("rep:sites")})


class PairForm(forms.Form):
    host = forms.CharField(
        label="Address of the other site", max_length=255, help_text="Host name or address, for example 127.0.0.2"
    )
    control_port = forms.IntegerField(label="Port", min_value=1, max_value=65535, initial=CONTROL_PORT)
    code = forms.CharField(
        label="Code",
        max_length=64,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="The one that the other site shows.",
    )


@operator
def pair(request: HttpRequest) -> HttpResponse:
    """Enter the code of the other site; afterwards both show the same fingerprint."""

    def order(data: dict[str, Any], _key: str) -> Done:
        made = pairing_client.pair(
            host=data["host"].strip(), code=data["code"], control_port=data["control_port"], actor=actor_of(request)
        )
        return Done(
            reverse("rep:site", args=[made.uuid]),
            f"Paired with {made.name}. Compare the pairing fingerprint with the one the other site shows.",
        )

    form = PairForm(posted(request))
    return order_page(
        request,
        "replication/add.html",
        form,
        order,
        {**NAV, "back": reverse("rep:sites")},
        again_url=reverse("rep:sites"),
    )


def _pairs(text: str) -> dict[str, str]:
    """`here = there`, one per line."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        here, sign, there = (part.strip() for part in line.partition("="))
        if not (here and sign and there):
            raise forms.ValidationError(f"“{line.strip()}” is not of the form: name here = name there.")
        if here in found:
            raise forms.ValidationError(f"{here} stands on the left twice.")
        found[here] = there
    return found


def _lines(mapping: dict[str, str]) -> str:
    return "\n".join(f"{here} = {there}" for here, there in mapping.items())


class SiteForm(forms.Form):
    name = forms.CharField(label="Name", max_length=200)
    capability = forms.ChoiceField(label="Capabilities", choices=Capability.choices, widget=forms.RadioSelect)
    host = forms.CharField(label="Address", max_length=255)
    control_port = forms.IntegerField(label="Control port", min_value=1, max_value=65535)
    data_port = forms.IntegerField(label="Data port", min_value=1, max_value=65535)
    compress = forms.BooleanField(label="Compress on wire", required=False)
    container_map = forms.CharField(
        label="Storage container mapping",
        required=False,
        max_length=20000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="One per line: container here = container there. "
        "An unmapped container goes to the one of the same name.",
    )
    network_map = forms.CharField(
        label="Network mapping",
        required=False,
        max_length=20000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="One per line: network here = network there. A card in an unmapped network comes up disconnected.",
    )

    def clean_container_map(self) -> dict[str, str]:
        return _pairs(self.cleaned_data["container_map"])

    def clean_network_map(self) -> dict[str, str]:
        return _pairs(self.cleaned_data["network_map"])


def _initial(found: RemoteSite) -> dict[str, Any]:
    first = found.addresses[0] if found.addresses else {}
    return {
        "name": found.name,
        "capability": found.capability,
        "host": first.get("host", ""),
        "control_port": first.get("control_port", CONTROL_PORT),
        "data_port": first.get("data_port", 2009),
        "compress": found.compress,
        "container_map": _lines(found.container_map),
        "network_map": _lines(found.network_map),
    }


@operator
def edit(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Settings. Further addresses of the site stay as they are."""
    found = get_object_or_404(RemoteSite, uuid=uuid)
    back = reverse("rep:site", args=[uuid])

    def order(data: dict[str, Any], _key: str) -> Done:
        first = {"host": data["host"].strip(), "control_port": data["control_port"], "data_port": data["data_port"]}
        remote_sites.update(
            found,
            name=data["name"],
            capability=data["capability"],
            addresses=[first, *found.addresses[1:]],
            compress=data["compress"],
            container_map=data["container_map"],
            network_map=data["network_map"],
            actor=actor_of(request),
        )
        return Done(back, f"Remote site {found.name} was changed.")

    form = SiteForm(posted(request), initial=_initial(found))
    return order_page(
        request, "replication/edit.html", form, order, {**NAV, "site": found, "back": back}, again_url=back
    )


@require_POST
@operator
def test(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Test Connection."""
    found = get_object_or_404(RemoteSite, uuid=uuid)

    def order(_key: str) -> str:
        answer = remote_sites.test_connection(found, actor=actor_of(request))
        return f"{found.name} answers in {answer['latency_seconds'] * 1000:.1f} ms, with the pinned certificate."

    return press(request, reverse("rep:site", args=[uuid]), order)


class DeleteForm(forms.Form):
    confirm = forms.BooleanField(
        label="Delete the remote site and end the pairing", error_messages={"required": "Confirm it."}
    )


@operator
def delete(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """End the pairing. What the other site received stays there."""
    found = get_object_or_404(RemoteSite, uuid=uuid)

    def order(_data: dict[str, Any], _key: str) -> Done:
        remote_sites.remove(found, actor=actor_of(request))
        return Done(reverse("rep:sites"), f"Remote site {found.name} was deleted.")

    context = {**NAV, "site": found, "back": reverse("rep:site", args=[uuid])}
    return order_page(
        request,
        "replication/delete.html",
        DeleteForm(posted(request)),
        order,
        context,
        again_url=reverse("rep:sites"),
    )
