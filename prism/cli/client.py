# SPDX-License-Identifier: Apache-2.0
"""Calls of the JSON API over HTTPS. The certificate is always checked; redirects and proxies are not followed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from prism.cli.config import Target
from prism.cli.errors import CliError, Exit, of_answer

if TYPE_CHECKING:
    from http.client import HTTPSConnection

ANSWER_SECONDS = 120
ANSWER_BYTES_MAX = 64 * 1024 * 1024
PAGE_ROWS = 500
Row = dict[str, Any]


class Client:
    """One site's API. Every method raises `CliError` with the exit status that fits."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._open: HTTPSConnection | None = None

    def get(self, path: str, **query: object) -> Any:
        return self.call("GET", path, query={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: object = None, *, key: str | None = None) -> Any:
        """An order; `key`, or one of its own, as Idempotency-Key."""
        return self.call("POST", path, body={} if body is None else body, key=key or uuid.uuid4().hex)

    def call(
        self, method: str, path: str, *, query: Row | None = None, body: object = None, key: str | None = None
    ) -> Any:
        """The decoded answer; None when it has no body."""
        headers = {"Authorization": f"Bearer {self._target.token}", "Accept": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        address = f"/api/v1/{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
        status, raw = self._exchange(method, address, data, headers)
        answer = _decoded(raw, status)
        if not 200 <= status < 300:
            raise of_answer(status, answer)
        return answer

    def rows(self, path: str, *, limit: int, **query: object) -> tuple[list[Row], int]:
        """The first `limit` rows of a list (0 = all), and how many there are."""
        found: list[Row] = []
        for page, total in self._pages(path, limit, query):
            found += page
            if not page or len(found) >= min(limit or total, total):
                return (found[:limit] if limit else found), total
        return found, len(found)

    def _pages(self, path: str, limit: int, query: Row) -> Iterator[tuple[list[Row], int]]:
        number = 1
        while True:
            size = min(limit or PAGE_ROWS, PAGE_ROWS)
            answer = self.get(path, **query, page=number, page_size=size)
            if isinstance(answer, list):  # a short list that is not paged
                yield answer, len(answer)
                return
            yield list(answer["results"]), int(answer["count"])
            number += 1

    def _exchange(self, method: str, address: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        from http.client import HTTPException  # not at the top: `prism --help` needs no network

        where = f"{self._target.host}:{self._target.port}"
        try:
            connection = self._connection()
            connection.request(method, address, data, headers)
            answer = connection.getresponse()
            raw = answer.read(ANSWER_BYTES_MAX + 1)
        except (OSError, HTTPException) as error:
            self.close()
            raise self._unreachable(where, error) from None
        if len(raw) > ANSWER_BYTES_MAX:
            raise CliError(f"The answer of {where} is too long.", "Narrow it with filters or --limit.")
        return int(answer.status), raw

    def _connection(self) -> HTTPSConnection:
        if self._open is None:
            import ssl
            from http.client import HTTPSConnection

            ca = self._target.ca
            try:
                context = ssl.create_default_context(cafile=str(ca) if ca else None)
            except (OSError, ssl.SSLError) as error:
                raise CliError(
                    f"The certificate file {ca} cannot be read ({error}).",
                    "Copy identity/web.crt from the site's folder and name it with --ca.",
                    code=Exit.USAGE,
                ) from None
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            target = self._target
            self._open = HTTPSConnection(target.host, target.port, timeout=ANSWER_SECONDS, context=context)
        return self._open

    def _unreachable(self, where: str, error: Exception) -> CliError:
        import ssl

        if isinstance(error, ssl.SSLCertVerificationError):
            return CliError(
                f"The certificate of {where} is not trusted: {error.verify_message}.",
                "Copy identity/web.crt from the site's folder over a way you trust, and name it with --ca.",
                code=Exit.UNREACHABLE,
            )
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return CliError(
            f"{where} does not answer: {reason}.",
            "Is the site up? On its machine, `make status` and `make doctor` say.",
            code=Exit.UNREACHABLE,
        )

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def segment(text: str) -> str:
    """`text` as one part of an address."""
    return quote(text, safe="")


def _decoded(raw: bytes, status: int) -> Any:
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        if 200 <= status < 300:
            raise CliError("The answer is not JSON.", "Is this the address of a Prism DR site?") from None
        return None
