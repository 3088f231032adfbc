# SPDX-License-Identifier: Apache-2.0
"""Sign-in in one or two steps, sign-out and the theme. The admin pages have no other way in."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from django import forms
from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, resolve_url
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from prism.console.middleware import MUST_CHANGE
from prism.console.shell import THEME_COOKIE, THEMES
from prism.core.services import second_factor, signins, users
from prism.core.services.limits import locked_until
from prism.webkit import times
from prism.webkit.pages import back_url, done, show

THEME_SECONDS = 365 * 24 * 3600
HALFWAY = "second_factor"
HALFWAY_SECONDS = 300
"""How long after the password the code may come."""


def locked_text(request: HttpRequest, until: datetime) -> str:
    """The refusal of somebody who tried too often, with the time of the next try in his zone."""
    zone = times.zone_of(request)
    at = f"{times.absolute(until, zone)} {until.astimezone(zone).tzname() or ''}".strip()
    return f"Too many failed attempts from here. Try again {times.relative(until)}, at {at}."


class SignInForm(AuthenticationForm):
    """Says when to try again; it does not say whether a name exists."""

    locked_until: datetime | None = None

    def get_invalid_login_error(self) -> ValidationError:
        name = str(self.cleaned_data.get("username") or "")
        self.locked_until = locked_until(self.request, name) if self.request else None
        if self.request and self.locked_until is not None:
            return ValidationError(locked_text(self.request, self.locked_until), code="locked")
        return ValidationError("Name and password do not fit.", code="invalid_login")

    def confirm_login_allowed(self, user: Any) -> None:
        super().confirm_login_allowed(user)
        if users.one_time_is_over(user):
            raise ValidationError(
                f"This one-time password was good for {users.ONE_TIME_HOURS} hours. Ask an administrator for another.",
                code="one_time_over",
            )


class SignIn(LoginView):
    """Django's own sign-in; a refused one answers 422 like every form here, a locked one 429."""

    template_name = "console/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        user = form.get_user()
        if not isinstance(user, User):
            raise TypeError("a sign-in without an account")
        if not second_factor.is_on(user):
            return _enter(self.request, user, self.get_success_url())
        self.request.session[HALFWAY] = {
            "user": user.pk,
            "hash": user.get_session_auth_hash(),
            "until": time.time() + HALFWAY_SECONDS,
            "next": self.get_redirect_url(),
        }
        return redirect("console:sign-in-code")

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        response = self.render_to_response(self.get_context_data(form=form))
        return _refused(response, getattr(form, "locked_until", None))


sign_in = SignIn.as_view()
sign_out = LogoutView.as_view(next_page="console:sign-in")


class CodeForm(forms.Form):
    code = forms.CharField(
        label="Code",
        max_length=second_factor.CODE_CHARACTERS_MAX,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false"}),
        help_text="Six digits of your authenticator app, or one of your recovery codes.",
    )


@sensitive_post_parameters()
@never_cache
def sign_in_code(request: HttpRequest) -> HttpResponse:
    """The second step: only for who gave the right password a moment ago."""
    user = _halfway(request)
    if user is None:
        return redirect("console:sign-in")
    form = CodeForm(request.POST if request.method == "POST" else None)
    until = None
    if request.method == "POST" and form.is_valid():
        until = locked_until(request, user.username)
        code = form.cleaned_data["code"]
        wait = second_factor.wait_seconds(user) if second_factor.DIGITS.fullmatch(code) else 0
        if until is None and not wait:
            kind = second_factor.check(user, code)
            if kind is not None:
                return _enter(request, user, request.session[HALFWAY]["next"], second_factor=kind)
            signins.failed(request, user.username)
            until = locked_until(request, user.username)
        if until is not None:
            form.add_error(None, locked_text(request, until))
        elif wait:
            form.add_error("code", f"After wrong codes the next one is taken in {wait} s.")
        else:
            form.add_error("code", "This code is wrong or was used already. Wait for the next one.")
    response = show(request, "console/sign_in_code.html", {"form": form, "name": user.username})
    return _refused(response, until) if request.method == "POST" else response


def admin_gate(request: HttpRequest) -> HttpResponse:
    """Where the admin sends strangers: to the console's sign-in. Who is signed in and no administrator gets 403."""
    if request.user.is_authenticated and request.user.is_staff:
        return redirect("admin:index")
    if request.user.is_authenticated:
        raise PermissionDenied("The administration pages are for administrators.")
    wanted = request.GET.get("next") or resolve_url("admin:index")
    return redirect(f"{resolve_url('console:sign-in')}?{urlencode({'next': wanted})}")


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Store light, dark or as the system says in a cookie; no account needed."""
    response = done(request, back_url(request, "/"))
    chosen = request.POST.get("theme", "")
    if chosen in THEMES:
        response.set_cookie(
            THEME_COOKIE, chosen, max_age=THEME_SECONDS, samesite="Lax", secure=request.is_secure(), httponly=True
        )
    return response


def _halfway(request: HttpRequest) -> User | None:
    """Whose password was right in this browser; None when that is too long ago or the password has changed since."""
    held = request.session.get(HALFWAY)
    if not held or time.time() > held["until"]:
        request.session.pop(HALFWAY, None)
        return None
    user = User.objects.filter(pk=held["user"], is_active=True).first()
    fits = user is not None and constant_time_compare(held["hash"], user.get_session_auth_hash())
    return user if fits else None


def _enter(request: HttpRequest, user: User, url: str, *, second_factor: str = "") -> HttpResponse:
    """Signed in. `url` was checked to be local when it was given."""
    request.session.pop(HALFWAY, None)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    signins.succeeded(request, user, second_factor=second_factor)
    if users.must_change_password(user):
        request.session[MUST_CHANGE] = True
    return HttpResponseRedirect(url or resolve_url("console:home"))


def _refused(response: HttpResponse, until: datetime | None) -> HttpResponse:
    response.status_code = 422
    if until is not None:
        response.status_code = 429
        response["Retry-After"] = str(max(1, int((until - timezone.now()).total_seconds())))
    return response
