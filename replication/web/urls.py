# SPDX-License-Identifier: Apache-2.0
"""Addresses of remote sites and of single replications."""

from django.urls import path

from replication.web import replications, sites

app_name = "rep"

urlpatterns = [
    path("", sites.sites, name="sites"),
    path("new/", sites.add, name="site-new"),
    path("new/code/", sites.show_code, name="pairing-code"),
    path("new/pair/", sites.pair, name="pair"),
    path("<uuid:uuid>/", sites.site, name="site"),
    path("<uuid:uuid>/edit/", sites.edit, name="site-edit"),
    path("<uuid:uuid>/test/", sites.test, name="site-test"),
    path("<uuid:uuid>/delete/", sites.delete, name="site-delete"),
    path("replications/<uuid:uuid>/<str:verb>/", replications.order, name="replication-order"),
]
