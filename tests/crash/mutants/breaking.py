# SPDX-License-Identifier: Apache-2.0
"""Ways to break the real code for a while: calls left out inside a function, functions replaced or wrapped."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from stargate.fs.memdisk import MemDisk, MemFile

Break = Callable[[ExitStack], None]
"""Breaks something until the stack is closed."""


@dataclass(frozen=True)
class Mutant:
    """`test`: the named test that catches it; empty: the explorer does."""

    name: str
    rule: str
    breaks: Break = field(repr=False)
    test: str = ""


@contextmanager
def broken(mutant: Mutant) -> Iterator[None]:
    with ExitStack() as stack:
        mutant.breaks(stack)
        yield


def replaced(stack: ExitStack, owner: Any, name: str, new: Any) -> None:
    old = owner.__dict__[name]
    stack.callback(setattr, owner, name, old)
    setattr(owner, name, new)


def place(where: str) -> tuple[Any, str]:
    """(owner, attribute) of `package.module:Class.method` or `package.module:function`."""
    module, _, path = where.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name


def instead(where: str, make: Callable[[Any], Any]) -> Break:
    """`make` gets the real function (or what else is there) and gives what is to be in its place."""

    def breaks(stack: ExitStack) -> None:
        owner, name = place(where)
        real = owner.__dict__[name]
        if isinstance(real, classmethod | staticmethod):
            replaced(stack, owner, name, type(real)(make(real.__func__)))
            return
        made = make(real)
        for holder in _holders(owner, name, real):
            replaced(stack, holder, name, made)

    return breaks


def _holders(owner: Any, name: str, real: Any) -> list[Any]:
    """All modules of the engine that imported a function by its name; a class itself."""
    if isinstance(owner, type):
        return [owner]
    modules = [module for path, module in sys.modules.items() if path.startswith("stargate")]
    return [module for module in modules if module.__dict__.get(name) is real]


def together(*parts: Break) -> Break:
    """Rules that guard each other, broken at once."""

    def breaks(stack: ExitStack) -> None:
        for part in parts:
            part(stack)

    return breaks


def without(call: str, where: str) -> Break:
    """The function at `where` runs with no `fdatasync` or `sync_dir` (`call`): a forgotten line."""

    def breaks(stack: ExitStack) -> None:
        owner: Any = MemFile if call == "fdatasync" else MemDisk
        real = owner.__dict__[call]
        inside = [0]

        def left_out(self: Any, *args: Any) -> None:
            if not inside[0]:
                real(self, *args)

        def wrap(function: Any) -> Any:
            def run(*args: Any, **more: Any) -> Any:
                inside[0] += 1
                try:
                    return function(*args, **more)
                finally:
                    inside[0] -= 1

            return run

        replaced(stack, owner, call, left_out)
        instead(where, wrap)(stack)

    return breaks
