# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from prism.core.api import views
from prism.core.api.integrity import IntegrityViewSet
from prism.core.api.nbd_clients import NbdClientViewSet
from prism.core.api.users import SessionViewSet, UserViewSet

router = SimpleRouter()
router.register("tasks", views.TaskViewSet, basename="task")
router.register("events", views.EventViewSet, basename="event")
router.register("measurements", views.MeasurementViewSet, basename="measurement")
router.register("alerts", views.AlertViewSet, basename="alert")
router.register("audit", views.AuditViewSet, basename="audit")
router.register("tokens", views.TokenViewSet, basename="token")
router.register("users", UserViewSet, basename="user")
router.register("sessions", SessionViewSet, basename="session")
router.register("nbd-clients", NbdClientViewSet, basename="nbd-client")

urlpatterns = [
    path("site/", views.SiteViewSet.as_view({"get": "retrieve"}), name="site"),
    path("integrity/", IntegrityViewSet.as_view({"get": "retrieve"}), name="integrity"),
    path("integrity/scrub/", IntegrityViewSet.as_view({"post": "scrub"}), name="integrity-scrub"),
    *router.urls,
]
