# SPDX-License-Identifier: Apache-2.0
"""Certificates of NBD clients: made here, shown once, revoked."""

from __future__ import annotations

from django import forms
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

from prism.core.exceptions import Refused
from prism.core.services import nbd_clients
from prism.webkit.access import operator, reader
from prism.webkit.orders import actor_of, first_time, posted, press, put_refusal, say, token_of
from prism.webkit.pages import show
from stargate.errors import StargateError

LIFETIMES = [("30", "30 days"), ("365", "1 year"), ("1095", "3 years"), ("3650", "10 years")]
NAV = "NBD clients"


class NbdClientForm(forms.Form):
    name = forms.CharField(label="Name", max_length=64, help_text="The host that connects, for example “kvm1”.")
    days = forms.ChoiceField(label="Valid for", choices=LIFETIMES, initial="365")


@reader
def clients(request: HttpRequest) -> HttpResponse:
    """All certificates ever issued; why not, when the engine does not answer."""
    error = ""
    found: list[nbd_clients.NbdClient] = []
    try:
        found = nbd_clients.clients()
    except (Refused, StargateError) as failure:
        error = say(failure)
    return show(request, "console/nbd_clients.html", {"nav": NAV, "clients": found, "error": error})


@operator
def create(request: HttpRequest) -> HttpResponse:
    """The files are shown on the answer itself: a secret has no place in a session."""
    form = NbdClientForm(posted(request))
    if request.method == "POST" and form.is_valid():
        if first_time(request, token_of(request)):
            try:
                made = nbd_clients.issue(
                    name=form.cleaned_data["name"], days=int(form.cleaned_data["days"]), actor=actor_of(request)
                )
                return show(
                    request,
                    "console/nbd_client_made.html",
                    {"nav": NAV, "client": made.client, "script": _script(made), "files": made.files},
                )
            except (Refused, StargateError) as error:
                put_refusal(form, error)
        else:
            form.add_error(
                None, "This form was already sent; what it made was shown once. Revoke that client and make another."
            )
    status = 422 if request.method == "POST" else 200
    return show(request, "console/nbd_client_new.html", {"nav": NAV, "form": form}, status=status)


def _script(made: nbd_clients.Credentials) -> str:
    """Commands that make the folder on the client."""
    lines = [f"(umask 077; mkdir -p {made.client.name} && cd {made.client.name}"]
    for name, text in made.files.items():
        lines.append(f"cat > {name} <<'END'\n{text.strip()}\nEND")
    return "\n".join(lines) + "\n)\n"


@require_POST
@operator
def revoke(request: HttpRequest, name: str) -> HttpResponse:
    """It opens nothing from now on."""

    def order(_key: str) -> str:
        nbd_clients.revoke(name, actor=actor_of(request))
        return f"The certificate of {name} is revoked and its connections are ended."

    return press(request, reverse("console:nbd-clients"), order)
