# SPDX-License-Identifier: Apache-2.0
"""Celery tasks with the types of the functions they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, Protocol, cast

from celery import shared_task

P = ParamSpec("P")


class Door(Protocol[P]):
    """A task: called it runs here, `delay` and `apply_async` send it to a worker."""

    name: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None: ...

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> object:
        """Send it. Raises what a broker that does not answer raises."""
        ...

    def apply_async(self, args: tuple[object, ...], *, countdown: float) -> object:
        """Send it to be run in `countdown` seconds."""
        ...


def door(name: str, queue: str) -> Callable[[Callable[P, None]], Door[P]]:
    """Makes a function the task `name`, which workers take from `queue`."""

    def made(function: Callable[P, None]) -> Door[P]:
        return cast(Door[P], shared_task(name=name, queue=queue)(function))

    return made
