# SPDX-License-Identifier: Apache-2.0
"""A client of the JSON API as an operator's script would be one: own certificate checked, a token made at its door."""

from __future__ import annotations

import http.cookiejar
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 90
TASK_SECONDS = 180
DONE = {"succeeded", "failed", "cancelled"}


class ApiError(AssertionError):
    """The API answered otherwise than expected."""


class Api:
    """Calls of one site. `get` and the like give the decoded body and fail on an unexpected status."""

    def __init__(self, address: str, certificate: Path, *, port: int = 9440) -> None:
        self._base = f"https://{address}:{port}"
        self._context = ssl.create_default_context(cafile=str(certificate))
        self._jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=self._context),
            urllib.request.HTTPCookieProcessor(self._jar),
        )
        self._headers: dict[str, str] = {}

    def sign_in(self, user: str, password: str) -> None:
        """As a person at the console, then make an API token and use only that from now on."""
        page = self._send("GET", "/login/")[1].decode()
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert found, page
        form = {"csrfmiddlewaretoken": found[1], "username": user, "password": password, "next": "/"}
        status, body = self._send(
            "POST", "/login/", urllib.parse.urlencode(form).encode(), {"Referer": f"{self._base}/login/"}
        )
        assert status == 200, body
        cookies = {cookie.name: cookie.value or "" for cookie in self._jar}
        csrf = next(value for name, value in cookies.items() if "csrf" in name)
        self._headers = {"X-CSRFToken": csrf, "Referer": f"{self._base}/"}
        made = self.post("tokens/", {"name": f"workflow {time.time_ns()}"}, expect=201)
        self._jar.clear()
        self._headers = {"Authorization": f"Bearer {made['token']}"}

    def _send(
        self, method: str, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        wanted = {**self._headers, **(headers or {})}
        request = urllib.request.Request(self._base + path, data=data, headers=wanted, method=method)
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and decoded body, whatever they are."""
        data = json.dumps(body).encode() if body is not None else None
        typed = {"Content-Type": "application/json", **(headers or {})} if data is not None else headers
        status, raw = self._send(method, f"/api/v1/{path}", data, typed)
        return status, json.loads(raw) if raw else None

    def get(self, path: str, **query: object) -> Any:
        text = f"?{urllib.parse.urlencode(query)}" if query else ""
        status, body = self.call("GET", path + text)
        if status != 200:
            raise ApiError(f"GET {path}{text}: {status} {body}")
        return body

    def rows(self, path: str, **query: object) -> list[dict[str, Any]]:
        """All rows of a list."""
        return list(self.get(path, page_size=500, **query)["results"])

    def post(self, path: str, body: object = None, *, expect: int = 200, method: str = "POST") -> Any:
        status, answer = self.call(method, path, {} if body is None else body)
        if status != expect:
            raise ApiError(f"{method} {path}: {status}, not {expect}: {answer}")
        return answer

    def refused(self, path: str, body: object = None, *, status: int = 409) -> dict[str, Any]:
        """The error of an order that must be refused; it says what is wrong and what to do."""
        error: dict[str, Any] = self.post(path, body, expect=status)["error"]
        assert error["message"], error
        return error

    def upload(self, path: str, data: bytes, *, method: str = "POST") -> Any:
        """Raw bytes into a file or a disk."""
        status, raw = self._send(method, f"/api/v1/{path}", data, {"Content-Type": "application/octet-stream"})
        if status not in (200, 201):
            raise ApiError(f"{method} {path}: {status} {raw!r}")
        return json.loads(raw)

    # Tasks

    def ordered(self, path: str, body: object = None) -> str:
        """Give an order that answers 202; returns its task."""
        answer = self.post(path, body, expect=202)
        return str(answer["task"]["uuid"])

    def task(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"tasks/{key}/")
        return found

    def finished(self, key: str, *, seconds: float = TASK_SECONDS) -> dict[str, Any]:
        """The task once it is over, however it ended."""
        deadline = time.monotonic() + seconds
        while (found := self.task(key))["state"] not in DONE:
            if time.monotonic() > deadline:
                raise ApiError(f"task still open after {seconds} s: {found}")
            time.sleep(0.1)
        return found

    def done(self, key: str, *, seconds: float = TASK_SECONDS) -> dict[str, Any]:
        """The task, which must succeed."""
        found = self.finished(key, seconds=seconds)
        assert found["state"] == "succeeded", found
        return found
