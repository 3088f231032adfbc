# SPDX-License-Identifier: Apache-2.0
"""Root of all addresses of the web process."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from prism.console.views import account
from prism.runtime.health import healthz, readyz

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    # Before the admin's own pages: one gate for both, with its limits, second factor and audit rows.
    path("admin/login/", account.admin_gate, name="admin-sign-in"),
    path("admin/password_change/", RedirectView.as_view(pattern_name="console:password"), name="admin-password"),
    path("admin/", admin.site.urls),
    path("api/v1/", include("prism.api_urls")),
    path("", include("prism.console.web_urls")),
]

handler400 = "prism.console.views.errors.bad_request"
handler403 = "prism.console.views.errors.permission_denied"
handler404 = "prism.console.views.errors.not_found"
handler500 = "prism.console.views.errors.server_error"
