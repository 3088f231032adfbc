# SPDX-License-Identifier: Apache-2.0
"""Large answers, part by part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from prism.core.exceptions import Refused
from prism.webkit.orders import say
from prism.webkit.pages import refused
from stargate.errors import StargateError


def download(
    request: HttpRequest, parts: Iterator[bytes], *, size_bytes: int, name: str, back: str
) -> HttpResponseBase:
    """`attachment` for a page: a refusal is said on `back`."""
    try:
        return attachment(parts, size_bytes=size_bytes, name=name)
    except (Refused, StargateError) as error:
        return refused(request, back, say(error))


def attachment(parts: Iterator[bytes], *, size_bytes: int, name: str) -> StreamingHttpResponse:
    """The bytes of `parts`. The first one is read before answering; raises what that raises."""
    first = next(parts, b"")
    following = sync_to_async(lambda: next(parts, b""))

    async def stream() -> AsyncIterator[bytes]:
        # A plain iterator would be collected in memory first by Django under ASGI.
        part = first
        while part:
            yield part
            part = await following()

    response = StreamingHttpResponse(stream(), content_type="application/octet-stream")
    response["Content-Length"] = str(size_bytes)
    safe = "".join(char if char.isalnum() or char in "._-" else "-" for char in name)
    response["Content-Disposition"] = f'attachment; filename="{safe}"'
    return response
