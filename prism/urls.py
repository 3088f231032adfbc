# SPDX-License-Identifier: Apache-2.0
"""Root of all addresses of the web process."""

from django.contrib import admin
from django.urls import path

from prism.runtime.health import healthz, readyz

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("admin/", admin.site.urls),
]
