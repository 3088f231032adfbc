# SPDX-License-Identifier: Apache-2.0
"""Is what this site stored still whole: the scrub, damage of the log, and what `accept-loss` kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

from dataprotection.services import kept as kept_services
from prism.core.exceptions import Refused
from prism.core.services import integrity as services
from prism.webkit.access import operator, reader
from prism.webkit.orders import Done, actor_of, order_page, posted, press, say
from prism.webkit.pages import is_fragment, show
from stargate.errors import StargateError

NAV = "Integrity"
FORM = "dataprotection/inventory/form.html"


@dataclass
class Page:
    """None, and `errors` in words, for what the engine did not tell."""

    scrub: services.Integrity | None = None
    damage: services.LogDamage | None = None
    log_known: bool = False
    kept: list[kept_services.Kept] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def _page() -> Page:
    """The store knows of the scrub, the front of the log: one may be away."""
    page = Page()
    try:
        page.scrub = services.integrity()
    except (Refused, StargateError) as error:
        page.errors.append(say(error))
    try:
        page.damage = services.log_damage()
        page.kept = kept_services.all_kept()
        page.log_known = True
    except (Refused, StargateError) as error:
        page.errors.append(say(error))
    return page


@reader
def integrity(request: HttpRequest) -> HttpResponse:
    """The page, or its live part."""
    template = "console/_integrity.html" if is_fragment(request) else "console/integrity.html"
    return show(request, template, {"nav": NAV, "page": _page()})


@require_POST
@operator
def scrub(request: HttpRequest) -> HttpResponse:
    """Read everything now."""

    def order(_key: str) -> str:
        found = services.scrub_now(actor=actor_of(request))
        return f"Everything is being read: {found.parts} parts, beside guests and at the scrub's own pace."

    return press(request, reverse("console:integrity"), order)


def _kept_page(request: HttpRequest, heading: str, save: str, order: Callable[[], str], **notes: str) -> HttpResponse:
    """The page of an order on a kept state; `order` gives it and returns what to say."""
    back = reverse("console:integrity")
    context = {"nav": NAV, "heading": heading, "back": back, "save": save, "tone": "danger", **notes}
    form = forms.Form(posted(request))
    return order_page(request, FORM, form, lambda _data, _key: Done(back, order()), context, again_url=back)


@operator
def bring_back(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Disks that `accept-loss` left down serve again as they were before the damage."""
    names = [found.disk.export_name for found in kept_services.one(uuid).waiting if found.disk is not None]

    def order() -> str:
        back = kept_services.bring_back(uuid, actor=actor_of(request))
        return f"{_some([disk.export_name for disk in back])}: served again as before the damage."

    return _kept_page(
        request,
        "Bring disks back",
        "Bring back",
        order,
        warning="Guests were told that later writes were stored: these are lost. Check what runs on the disks.",
        tip=f"Disks that are down: {_some(names) or 'none'}.",
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


@operator
def delete(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Give up what `accept-loss` kept."""
    down = len(kept_services.one(uuid).waiting)

    def order() -> str:
        kept_services.delete(uuid, actor=actor_of(request))
        return "The kept state is deleted; its space comes back with the next sweep."

    warning = "The state of all disks before the damage is gone then, for good."
    if down:
        warning += f" {down} of them could still be brought back from it."
    return _kept_page(request, "Delete the kept state", "Delete", order, warning=warning)
