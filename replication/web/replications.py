# SPDX-License-Identifier: Apache-2.0
"""Pause, Resume and Abort of one replication."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST

from prism.webkit.access import operator
from prism.webkit.orders import actor_of, press
from prism.webkit.pages import back_url
from replication.models import Replication
from replication.services import replications as services

VERBS = {
    "pause": (services.pause, "paused"),
    "resume": (services.resume, "resumed"),
    "abort": (services.abort, "aborted"),
}


@require_POST
@operator
def order(request: HttpRequest, uuid: UUID, verb: str) -> HttpResponse:
    """The link of a row in the tab Replications."""
    if verb not in VERBS:
        raise Http404
    found = get_object_or_404(Replication.objects.select_related("site"), uuid=uuid)
    service, past = VERBS[verb]

    def give(_key: str) -> str:
        service(found, actor=actor_of(request))
        return f"The replication of {found.domain_name} {found.display_id} to {found.site.name} was {past}."

    return press(request, back_url(request, reverse("rep:sites")), give)
