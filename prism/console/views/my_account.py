# SPDX-License-Identifier: Apache-2.0
"""The user's own account: password, two-step sign-in, open sessions. Each change asks for the password again."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import authenticate, password_validation, update_session_auth_hash
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from prism.console.middleware import MUST_CHANGE
from prism.console.views.account import CodeForm, locked_text
from prism.core.exceptions import InvalidInput, Refused
from prism.core.models import ApiToken
from prism.core.services import roles, second_factor, sessions, users
from prism.core.services.limits import locked_until
from prism.webkit.access import reader
from prism.webkit.orders import actor_of, posted, press, put_refusal
from prism.webkit.pages import done, show

NAV = "Account"


class ConfirmForm(forms.Form):
    """Asks who sits there; a wrong password counts like a failed sign-in."""

    current = forms.CharField(
        label="Your password",
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    def clean_current(self) -> str:
        given = str(self.cleaned_data["current"])
        user = signed_in(self.request)
        if authenticate(self.request, username=user.username, password=given) is None:
            until = locked_until(self.request, user.username)
            raise forms.ValidationError(locked_text(self.request, until) if until else "This is not your password.")
        return given


class PasswordForm(ConfirmForm):
    new = forms.CharField(
        label="New password",
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 10 characters; not a common one, not only digits, not like your name.",
    )
    again = forms.CharField(
        label="New password again",
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        new = values.get("new")
        if new is not None and "again" in values and new != values["again"]:
            self.add_error("again", "The two are not the same.")
        if new is not None and new == values.get("current"):
            self.add_error("new", "This is the password you have.")
        if new is not None:
            try:
                password_validation.validate_password(new, signed_in(self.request))
            except forms.ValidationError as error:
                self.add_error("new", error)
        return values


def signed_in(request: HttpRequest) -> User:
    """The decorator `reader` has checked it."""
    if not isinstance(request.user, User):
        raise TypeError("a page of an account without an account")
    return request.user


@reader
def account(request: HttpRequest) -> HttpResponse:
    """What the user has: role, password, second step, sessions, tokens."""
    user = signed_in(request)
    role = roles.role_of(user)
    live = ApiToken.objects.filter(user=user, revoked_at__isnull=True).count()
    context = {
        "nav": NAV,
        "role": role,
        "role_words": roles.ROLE_WORDS[role],
        "second_factor": second_factor.is_on(user),
        "codes_left": second_factor.codes_left(user),
        "sessions": sessions.of(user),
        "this_key": request.session.session_key,
        "tokens": live,
    }
    return show(request, "console/account.html", context)


@sensitive_post_parameters()
@reader
def password(request: HttpRequest) -> HttpResponse:
    """Other sessions of the user end; this one goes on."""
    form = PasswordForm(request, posted(request))
    forced = bool(request.session.get(MUST_CHANGE))
    if request.method == "POST" and form.is_valid():
        user, old_key = signed_in(request), request.session.session_key or ""
        try:
            users.set_password(user, password=form.cleaned_data["new"], actor=actor_of(request))
        except InvalidInput as error:
            form.add_error("new", error.message)
        else:
            update_session_auth_hash(request, user)
            sessions.moved(old_key, request.session.session_key or "")
            sessions.drop(user, keep=request.session.session_key)
            request.session.pop(MUST_CHANGE, None)
            url = reverse("console:home" if forced else "console:account")
            return done(request, url, "Your password is changed; you are signed out everywhere else.")
    status = 422 if request.method == "POST" else 200
    return show(request, "console/password.html", {"nav": NAV, "form": form, "forced": forced}, status=status)


@require_POST
@reader
def session_end(request: HttpRequest, pk: int) -> HttpResponse:
    """Sign one browser out."""

    def order(_key: str) -> str:
        sessions.end(signed_in(request), pk, actor=actor_of(request))
        return "That browser is signed out."

    return press(request, reverse("console:account"), order)


@require_POST
@reader
def sessions_end(request: HttpRequest) -> HttpResponse:
    """Sign all other browsers out."""

    def order(_key: str) -> str:
        ended = sessions.end_all(signed_in(request), keep=request.session.session_key, actor=actor_of(request))
        return f"{ended} other session{'s' if ended != 1 else ''} ended."

    return press(request, reverse("console:account"), order)


@never_cache
@sensitive_post_parameters()
@reader
def second_factor_on(request: HttpRequest) -> HttpResponse:
    """Shows the secret as a picture and as text; a code shows that the app has it."""
    user = signed_in(request)
    form = CodeForm(posted(request))
    form.fields["code"].help_text = "The six digits that the app shows now."
    if request.method == "POST" and form.is_valid():
        try:
            codes = second_factor.confirm(user, code=form.cleaned_data["code"], actor=actor_of(request))
        except Refused as error:
            put_refusal(form, error)
        else:
            ended = sessions.drop(user, keep=request.session.session_key)
            return show(request, "console/recovery_codes.html", {"nav": NAV, "codes": codes, "ended": ended})
    try:
        device = second_factor.begin(user)
    except Refused as error:
        messages.info(request, error.message)
        return done(request, reverse("console:account"))
    # segno escapes what it writes; the address in it is not shown as text.
    picture = mark_safe(second_factor.picture(device))
    context = {"nav": NAV, "form": form, "picture": picture, "secret": second_factor.secret_text(device)}
    return show(request, "console/second_factor_on.html", context, status=422 if request.method == "POST" else 200)


@sensitive_post_parameters()
@reader
def second_factor_off(request: HttpRequest) -> HttpResponse:
    """Back to the password alone."""
    form = ConfirmForm(request, posted(request))
    if request.method == "POST" and form.is_valid():
        second_factor.disable(signed_in(request), actor=actor_of(request))
        return done(request, reverse("console:account"), "Two-step sign-in is off.")
    status = 422 if request.method == "POST" else 200
    return show(request, "console/second_factor_off.html", {"nav": NAV, "form": form}, status=status)


@never_cache
@sensitive_post_parameters()
@reader
def recovery_codes(request: HttpRequest) -> HttpResponse:
    """New recovery codes, shown on the answer itself."""
    form = ConfirmForm(request, posted(request))
    if request.method == "POST" and form.is_valid():
        try:
            codes = second_factor.renew_codes(signed_in(request), actor=actor_of(request))
            return show(request, "console/recovery_codes.html", {"nav": NAV, "codes": codes})
        except Refused as error:
            put_refusal(form, error)
    status = 422 if request.method == "POST" else 200
    return show(request, "console/recovery_codes_new.html", {"nav": NAV, "form": form}, status=status)
