# SPDX-License-Identifier: Apache-2.0
"""Sign-in, sign-out and the theme."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST

from prism.console.shell import THEME_COOKIE, THEMES
from prism.webkit.pages import back_url, done

THEME_SECONDS = 365 * 24 * 3600


class SignIn(LoginView):
    """Django's own sign-in; a refused one answers 422 like every form here."""

    template_name = "console/sign_in.html"
    redirect_authenticated_user = True

    def form_invalid(self, form: object) -> HttpResponse:
        response = self.render_to_response(self.get_context_data(form=form))
        response.status_code = 422
        return response


sign_in = SignIn.as_view()
sign_out = LogoutView.as_view(next_page="console:sign-in")


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
