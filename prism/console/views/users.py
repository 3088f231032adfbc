# SPDX-License-Identifier: Apache-2.0
"""Users, for administrators: list, invite, role, disable, one-time password, lost phone, lock, sessions, tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST
from django_otp.plugins.otp_totp.models import TOTPDevice

from prism.core.actor import Actor
from prism.core.exceptions import NotFound, Refused
from prism.core.models import AuditRow
from prism.core.services import limits, roles, second_factor, sessions, signins, tokens, users
from prism.core.services.roles import ROLE_WORDS, Role
from prism.webkit.access import administrator
from prism.webkit.orders import Done, actor_of, first_time, order_page, posted, press, put_refusal, token_of
from prism.webkit.pages import show
from prism.webkit.tables import table

NAV = "Users"
SORTS = {"name": "username", "since": "date_joined", "last": "last_login"}
RECENT_ROWS = 10
ROLE_CHOICES = [(role.value, f"{role.label}: {ROLE_WORDS[role]}") for role in Role]


class RoleForm(forms.Form):
    role = forms.ChoiceField(label="Role", choices=ROLE_CHOICES, widget=forms.RadioSelect, initial=Role.VIEWER.value)


class InviteForm(RoleForm):
    username = forms.CharField(
        label="Name",
        max_length=users.NAME_CHARACTERS_MAX,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
        help_text="What they sign in with. It stands in the audit and cannot be changed.",
    )


@administrator
def user_list(request: HttpRequest) -> HttpResponse:
    """Everybody who may sign in."""
    listed = table(request, roles.with_roles(), sorts=SORTS, default="name", search=("username",))
    names = [user.pk for user in listed.rows]
    guarded = set(TOTPDevice.objects.filter(user_id__in=names, confirmed=True).values_list("user_id", flat=True))
    locked = limits.locked_names()
    shown = [
        {
            "user": user,
            "role": roles.role_of(user),
            "second_factor": user.pk in guarded,
            "locked_until": locked.get(user.username),
        }
        for user in listed.rows
    ]
    return show(request, "console/users.html", {"nav": NAV, "table": listed, "users": shown})


@administrator
def invite(request: HttpRequest) -> HttpResponse:
    """The one-time password is shown on the answer itself: a secret has no place in a session."""
    form = InviteForm(posted(request))
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        return _shown_once(
            request,
            form,
            lambda: users.invite(username=values["username"], role=values["role"], actor=actor_of(request)),
            "console/user_new.html",
            {},
        )
    status = 422 if request.method == "POST" else 200
    return show(request, "console/user_new.html", {"nav": NAV, "form": form}, status=status)


@administrator
def user(request: HttpRequest, pk: int) -> HttpResponse:
    """One account: what it may, how it is guarded, where it is signed in, what it ordered last."""
    found = get_object_or_404(User, pk=pk)
    role = roles.role_of(found)
    context = {
        "nav": NAV,
        "shown": found,
        "own": found.pk == request.user.pk,
        "role": role,
        "role_words": ROLE_WORDS[role],
        "second_factor": second_factor.is_on(found),
        "must_change": users.must_change_password(found),
        "locked_until": limits.locked_names().get(found.username),
        "sessions": sessions.of(found),
        "tokens": found.api_tokens.filter(revoked_at__isnull=True),
        "orders": AuditRow.objects.filter(user=found)[:RECENT_ROWS],
    }
    return show(request, "console/user.html", context)


@administrator
def role(request: HttpRequest, pk: int) -> HttpResponse:
    """Another role, at once."""
    found = get_object_or_404(User, pk=pk)
    form = RoleForm(posted(request), initial={"role": roles.role_of(found).value})

    def order(values: dict[str, Any], _key: str) -> Done:
        users.set_role(found, values["role"], actor=actor_of(request))
        return Done(_page_of(pk), f"{found.username} now has the role {Role(values['role']).label}.")

    context = {"nav": NAV, "shown": found}
    return order_page(request, "console/user_role.html", form, order, context, again_url=_page_of(pk))


@administrator
def reset_password(request: HttpRequest, pk: int) -> HttpResponse:
    """A one-time password, shown once."""
    found = get_object_or_404(User, pk=pk)
    form = forms.Form(posted(request))
    context = {"shown": found, "hours": users.ONE_TIME_HOURS}
    if request.method == "POST":
        form.is_valid()
        return _shown_once(
            request,
            form,
            lambda: (found, users.reset_password(found, actor=actor_of(request))),
            "console/user_reset.html",
            context,
        )
    return show(request, "console/user_reset.html", {"nav": NAV, "form": form, **context})


@require_POST
@administrator
def order(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """One button of the user's page."""
    found = get_object_or_404(User, pk=pk)
    if verb not in ORDERS:
        raise NotFound(f"There is no order {verb}.")
    return press(request, _page_of(pk), lambda _key: ORDERS[verb](found, actor_of(request)))


def _disable(user: User, actor: Actor) -> str:
    users.set_active(user, False, actor=actor)
    return f"{user.username} is disabled: signed out everywhere, tokens refused."


def _enable(user: User, actor: Actor) -> str:
    users.set_active(user, True, actor=actor)
    return f"{user.username} may sign in again."


def _unlock(user: User, actor: Actor) -> str:
    signins.unlock(username=user.username, actor=actor)
    return f"{user.username} may try again."


def _end_sessions(user: User, actor: Actor) -> str:
    ended = sessions.end_all(user, actor=actor)
    return f"{ended} session{'s' if ended != 1 else ''} of {user.username} ended."


def _second_factor_off(user: User, actor: Actor) -> str:
    second_factor.disable(user, actor=actor)
    return f"Two-step sign-in of {user.username} is off: the password alone is enough until it is set up again."


def _revoke_tokens(user: User, actor: Actor) -> str:
    live = list(user.api_tokens.filter(revoked_at__isnull=True))
    for token in live:
        tokens.revoke(token, actor=actor)
    return f"{len(live)} token{'s' if len(live) != 1 else ''} of {user.username} revoked."


ORDERS: dict[str, Callable[[User, Actor], str]] = {
    "disable": _disable,
    "enable": _enable,
    "unlock": _unlock,
    "end-sessions": _end_sessions,
    "second-factor-off": _second_factor_off,
    "revoke-tokens": _revoke_tokens,
}


@sensitive_variables()
def _shown_once(
    request: HttpRequest,
    form: forms.Form,
    make: Callable[[], tuple[User, str]],
    template: str,
    context: dict[str, Any],
) -> HttpResponse:
    """Make a one-time password and show it on the answer; the form again when it was refused or sent twice."""
    if first_time(request, token_of(request)):
        try:
            made, password = make()
            context = {**context, "nav": NAV, "shown": made, "password": password, "hours": users.ONE_TIME_HOURS}
            return show(request, "console/user_password.html", context)
        except Refused as error:
            put_refusal(form, error)
    else:
        form.add_error(None, "This form was already sent; its password was shown once. Reset it to get another.")
    return show(request, template, {"nav": NAV, "form": form, **context}, status=422)


def _page_of(pk: int) -> str:
    return reverse("console:user", args=[pk])
