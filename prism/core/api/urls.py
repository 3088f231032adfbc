# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from prism.core.api import views
from prism.core.api.nbd_clients import NbdClientViewSet

router = SimpleRouter()
router.register("tasks", views.TaskViewSet, basename="task")
router.register("events", views.EventViewSet, basename="event")
router.register("alerts", views.AlertViewSet, basename="alert")
router.register("audit", views.AuditViewSet, basename="audit")
router.register("tokens", views.TokenViewSet, basename="token")
router.register("nbd-clients", NbdClientViewSet, basename="nbd-client")

urlpatterns = [path("site/", views.site, name="site"), *router.urls]
