# SPDX-License-Identifier: Apache-2.0
"""An order given by a form: show it, check it, give it once, say what happened. Views only name the service."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from django import forms
from django.contrib import messages
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, QueryDict
from redis.exceptions import RedisError

from prism.core.actor import Actor
from prism.core.choices import ActorSource
from prism.core.exceptions import Conflict, InvalidInput, NotFound, Refused
from prism.webkit.pages import done, refused, show
from stargate.errors import StargateError

TOKEN_FIELD = "form_token"
SEEN_FIELD = "form_seen"
TOKEN_SECONDS = 12 * 3600
ALREADY = "This form was already sent. Its order was given once; below is what became of it."

log = logging.getLogger(__name__)


class Done(NamedTuple):
    """Where to go after the order, and what to say there."""

    url: str
    message: str = ""


def actor_of(request: HttpRequest) -> Actor:
    """Who gives the order of this request."""
    return Actor.from_user(request.user, source=ActorSource.CONSOLE, address=request.META.get("REMOTE_ADDR") or "")


def posted(request: HttpRequest) -> QueryDict | None:
    """The fields of a sent form, also of one without fields; None when the page is only asked for."""
    return request.POST if request.method == "POST" else None


def token_of(request: HttpRequest) -> str:
    """The token of the form that was sent: the idempotency key of its order. A fresh one when the form has none."""
    try:
        return str(uuid.UUID(request.POST.get(TOKEN_FIELD, "")))
    except ValueError:
        return str(uuid.uuid4())


def first_time(request: HttpRequest, token: str) -> bool:
    """Whether this form was not sent before. Without a cache the services' own keys have to do."""
    try:
        return bool(cache.add(f"form:{request.user.pk}:{token}", 1, TOKEN_SECONDS))
    except (RedisError, OSError):
        log.warning("the cache does not answer: a form sent twice is not recognised")
        return True


def say(error: Refused | StargateError) -> str:
    """The refusal and the next step as one text."""
    step = getattr(error, "next_step", "")
    return f"{error.message} {step}".strip()


def put_refusal(form: forms.Form, error: Refused | StargateError) -> None:
    """Write a refusal beside the field it names, else above the form."""
    field = error.field if isinstance(error, InvalidInput) and error.field in form.fields else None
    form.add_error(field, say(error))


def seen_of(form: forms.Form) -> str:
    """What a form shows of a stored object, as a short sum; "" for a form that shows none."""
    if not form.initial:
        return ""
    text = json.dumps(form.initial, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _changed_meanwhile(form: forms.Form) -> str:
    """For a form that was opened over an older state: what is stored now where the form would write something else."""
    now = (f"{form[name].label}: {_in_words(form[name].initial)}" for name in form.changed_data)
    return (
        "Somebody else changed this while the form was open, so nothing was written. "
        f"Stored now: {'; '.join(now) or 'what stands below'}. "
        "Send the form again to write what stands below over it, or cancel."
    )


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "nothing" if value in (None, "") else str(value)


def order_page(
    request: HttpRequest,
    template: str,
    form: forms.Form,
    order: Callable[[dict[str, Any], str], Done],
    context: dict[str, Any] | None = None,
    *,
    again_url: str = "/",
) -> HttpResponse:
    """GET shows `form`; POST gives `order(cleaned_data, idempotency_key)`.

    A refusal or a wrong field answers 422 with the message beside it and a fresh token, and so does a form over
    something that was changed since it was shown; a form sent twice goes to `again_url`.
    """
    shown = request.POST.get(SEEN_FIELD) or seen_of(form)
    if request.method == "POST" and form.is_valid():
        token = token_of(request)
        if not first_time(request, token):
            messages.info(request, ALREADY)
            return done(request, again_url)
        try:
            if shown != seen_of(form):
                shown = seen_of(form)
                raise Conflict("changed_meanwhile", _changed_meanwhile(form))
            return done(request, *order(form.cleaned_data, token))
        except NotFound:
            raise
        except (Refused, StargateError) as error:
            put_refusal(form, error)
    status = 422 if request.method == "POST" else 200
    return show(request, template, {"form": form, "seen": shown, **(context or {})}, status=status)


def press(request: HttpRequest, url: str, order: Callable[[str], str]) -> HttpResponse:
    """One button without fields: `order(idempotency_key)` returns what to say; a refusal is said on `url`."""
    token = token_of(request)
    if not first_time(request, token):
        messages.info(request, ALREADY)
        return done(request, url)
    try:
        return done(request, url, order(token))
    except (Refused, StargateError) as error:
        return refused(request, url, say(error))
