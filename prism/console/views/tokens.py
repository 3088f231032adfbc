# SPDX-License-Identifier: Apache-2.0
"""API tokens of the signed-in user: the text is shown once."""

from __future__ import annotations

from datetime import timedelta

from django import forms
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from prism.core.exceptions import Refused
from prism.core.models import ApiToken
from prism.core.services import tokens as token_services
from prism.webkit.access import reader
from prism.webkit.orders import actor_of, first_time, posted, press, put_refusal, token_of
from prism.webkit.pages import show

LIFETIMES = [("30", "30 days"), ("90", "90 days"), ("365", "1 year"), ("", "No expiration")]


class TokenForm(forms.Form):
    name = forms.CharField(label="Name", max_length=75, help_text="What uses it, for example “backup report”.")
    days = forms.ChoiceField(label="Valid for", choices=LIFETIMES, required=False, initial="90")


def _signed_in(request: HttpRequest) -> User:
    """The decorator `reader` has checked it."""
    if not isinstance(request.user, User):
        raise TypeError("a page of an account without an account")
    return request.user


@reader
def tokens(request: HttpRequest) -> HttpResponse:
    """The user's own tokens."""
    return show(
        request,
        "console/tokens.html",
        {"nav": "API tokens", "tokens": ApiToken.objects.filter(user=_signed_in(request))},
    )


@reader
def create(request: HttpRequest) -> HttpResponse:
    """A read-only user's token is read-only too: it never has more rights than its user."""
    form = TokenForm(posted(request))
    if request.method == "POST" and form.is_valid():
        days = form.cleaned_data["days"]
        expires_at = timezone.now() + timedelta(days=int(days)) if days else None
        if first_time(request, token_of(request)):
            try:
                token, text = token_services.create(
                    user=_signed_in(request),
                    name=form.cleaned_data["name"],
                    expires_at=expires_at,
                    actor=actor_of(request),
                )
                # Shown on the answer itself: a secret has no place in a session or in a message queue.
                return show(request, "console/token_made.html", {"nav": "API tokens", "token": token, "text": text})
            except Refused as error:
                put_refusal(form, error)
        else:
            form.add_error(
                None, "This form was already sent; the token it made was shown once. Revoke it and make another."
            )
    status = 422 if request.method == "POST" else 200
    return show(request, "console/token_new.html", {"nav": "API tokens", "form": form}, status=status)


@require_POST
@reader
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """It stops working at once."""
    token = get_object_or_404(ApiToken, pk=pk, user=_signed_in(request))

    def order(_key: str) -> str:
        token_services.revoke(token, actor=actor_of(request))
        return "The token is revoked: it no longer works."

    return press(request, reverse("console:tokens"), order)
