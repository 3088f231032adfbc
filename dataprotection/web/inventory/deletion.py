# SPDX-License-Identifier: Apache-2.0
"""The page that deletes an entity, the same for every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import pluralize

from dataprotection.models import VM, VolumeGroup
from prism.webkit.orders import Done, order_page, posted


class DeleteForm(forms.Form):
    even_if_protected = forms.BooleanField(
        label="Delete it although it is protected; it will be a missing entity of its protection domain", required=False
    )


@dataclass(frozen=True, slots=True)
class Deletion:
    """What it is called in "Delete ..." ("VM web"), what is lost, the address of its page and of its list."""

    title: str
    warning: str
    page: str
    table: str


def disks_in_words(entity: VM | VolumeGroup) -> str:
    """ "1 disk" or "3 disks"."""
    count = entity.disks.count()
    return f"{count} disk{pluralize(count)}"


def deletion_page(
    request: HttpRequest, what: Deletion, delete: Callable[[bool], object], nav: dict[str, Any]
) -> HttpResponse:
    """Asks, then calls `delete(even if it is protected)`."""

    def order(data: dict[str, Any], _key: str) -> Done:
        delete(data["even_if_protected"])
        return Done(what.table, f"Deleted {what.title}.")

    context = {
        **nav,
        "heading": f"Delete {what.title}",
        "save": "Delete",
        "tone": "danger",
        "back": what.page,
        "warning": what.warning,
    }
    template = "dataprotection/inventory/form.html"
    return order_page(request, template, DeleteForm(posted(request)), order, context, again_url=what.table)
