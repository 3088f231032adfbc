# SPDX-License-Identifier: Apache-2.0
"""Addresses of the shell."""

from django.urls import path

from prism.console.views import account, home, integrity, my_account, nbd_clients, notices, search, tasks, tokens, users

app_name = "console"

urlpatterns = [
    path("", home.home, name="home"),
    path("bar/", home.bar, name="bar"),
    path("login/", account.sign_in, name="sign-in"),
    path("login/code/", account.sign_in_code, name="sign-in-code"),
    path("logout/", account.sign_out, name="sign-out"),
    path("theme/", account.theme, name="theme"),
    path("search/", search.search, name="search"),
    path("keys/", search.shortcuts, name="shortcuts"),
    path("account/", my_account.account, name="account"),
    path("account/password/", my_account.password, name="password"),
    path("account/sessions/end/", my_account.sessions_end, name="sessions-end"),
    path("account/sessions/<int:pk>/end/", my_account.session_end, name="session-end"),
    path("account/second-factor/", my_account.second_factor_on, name="second-factor-on"),
    path("account/second-factor/off/", my_account.second_factor_off, name="second-factor-off"),
    path("account/second-factor/codes/", my_account.recovery_codes, name="recovery-codes"),
    path("users/", users.user_list, name="users"),
    path("users/new/", users.invite, name="user-new"),
    path("users/<int:pk>/", users.user, name="user"),
    path("users/<int:pk>/role/", users.role, name="user-role"),
    path("users/<int:pk>/reset-password/", users.reset_password, name="user-reset-password"),
    path("users/<int:pk>/order/<slug:verb>/", users.order, name="user-order"),
    path("tasks/", tasks.tasks, name="tasks"),
    path("tasks/now/", tasks.drawer, name="drawer"),
    path("tasks/<uuid:uuid>/", tasks.task, name="task"),
    path("alerts/", notices.alerts, name="alerts"),
    path("alerts/<int:pk>/acknowledge/", notices.acknowledge, name="alert-acknowledge"),
    path("alerts/<int:pk>/resolve/", notices.resolve, name="alert-resolve"),
    path("events/", notices.events, name="events"),
    path("audit/", notices.audit, name="audit"),
    path("tokens/", tokens.tokens, name="tokens"),
    path("tokens/new/", tokens.create, name="token-new"),
    path("tokens/<int:pk>/revoke/", tokens.revoke, name="token-revoke"),
    path("integrity/", integrity.integrity, name="integrity"),
    path("integrity/scrub/", integrity.scrub, name="scrub"),
    path("integrity/kept/<uuid:uuid>/bring-back/", integrity.bring_back, name="kept-bring-back"),
    path("integrity/kept/<uuid:uuid>/delete/", integrity.delete, name="kept-delete"),
    path("nbd-clients/", nbd_clients.clients, name="nbd-clients"),
    path("nbd-clients/new/", nbd_clients.create, name="nbd-client-new"),
    path("nbd-clients/<str:name>/revoke/", nbd_clients.revoke, name="nbd-client-revoke"),
]
