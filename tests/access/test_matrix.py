# SPDX-License-Identifier: Apache-2.0
"""Every route of the resolver, asked by everybody: gets in who is declared to, and nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from prism.core.models import SignInSession
from tests.access.routes import RULES, Route, routes, rule_of

ROOT = Path(__file__).parents[2]
ALL = list(routes())
WRONG_SITE = {"Authorization": "Bearer prism_" + "A" * 43}
IN, OUT, FORBIDDEN = "in", "out", "forbidden"


def verdict(answer: Any) -> str:
    """What the door said. 405 says nothing about who asked, so it is "out" for nobody."""
    if answer.status_code in {401, 429}:
        return OUT
    if answer.status_code == 302 and answer["Location"].startswith(("/login/?", "/admin/login/")):
        return OUT
    if answer.status_code == 204 and answer.get("HX-Refresh"):
        return OUT
    return FORBIDDEN if answer.status_code == 403 else IN


# One for all: making a client loads the middleware anew, which takes longer than most answers.
CLIENT = Client(raise_request_exception=False)


def ask(user: User | None, route: Route, method: str, **headers: str) -> Any:
    """The answer to `user`, in his open session or, after a route that ended it, a new one."""
    CLIENT.cookies.clear()
    if user is not None:
        open_session = SignInSession.objects.filter(user=user).first()
        if open_session is None:
            CLIENT.force_login(user)
        else:
            CLIENT.cookies[settings.SESSION_COOKIE_NAME] = open_session.session_key
    body = {} if method == "get" else {"content_type": "application/json"}
    return getattr(CLIENT, method)(route.address, headers=headers, **body)


def test_every_route_is_declared_and_every_declaration_is_a_route() -> None:
    undeclared = [f"{route.name} {route.address}" for route in ALL if rule_of(route) is None]
    assert undeclared == []
    assert set(RULES) - {route.name for route in ALL} == set()
    assert len(ALL) > 200


@pytest.mark.parametrize("identity", ["anonymous", "viewer", "operator", "admin"])
def test_it_lets_in_who_is_declared_and_nobody_else(identity: str, request: pytest.FixtureRequest, db: None) -> None:
    user = None if identity == "anonymous" else request.getfixturevalue(identity)
    wrong = []
    for route in ALL:
        rule = rule_of(route)
        assert rule is not None
        for method in ("get", *route.methods):
            answer = ask(user, route, method)
            wanted = IN if identity in (rule.read if method == "get" else rule.change) else OUT
            said = verdict(answer)
            if answer.status_code != 405 and (said == IN) != (wanted == IN):
                wrong.append(f"{identity} {method} {route.address} ({route.name}): {answer.status_code}")
            if identity == "anonymous" and wanted == OUT and said == FORBIDDEN:
                wrong.append(f"a stranger got 403 at {method} {route.address}")
    assert not wrong, "\n".join(wrong)


def test_a_token_of_another_site_is_a_stranger_everywhere(db: None) -> None:
    wrong = []
    for route in ALL:
        rule = rule_of(route)
        assert rule is not None
        for method in ("get", *route.methods):
            answer = ask(None, route, method, **WRONG_SITE)
            if "anonymous" not in rule.read and answer.status_code != 405 and verdict(answer) != OUT:
                wrong.append(f"{method} {route.address}: {answer.status_code}")
    assert not wrong, "\n".join(wrong)


def test_the_production_settings_pass_the_deployment_check() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PRISM_", "DJANGO_"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
