# SPDX-License-Identifier: Apache-2.0
"""What a backend remembers besides bytes: fence token, covered position, pins, groups, stages. One small JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from stargate.errors import AlreadyExists, DamagedData, NotFound, StaleToken, Unavailable
from stargate.fs.disk import Disk, write_atomic
from stargate.units import MiB

FORMAT = 1
STATE_BYTES_MAX = 64 * MiB


@dataclass
class Stage:
    """An incoming version: the version that holds what has arrived (hex), and its shape."""

    version: str
    size_bytes: int
    chunk_bytes: int


@dataclass
class State:
    """All ids are hex. `versions` (size, chunk bytes) is for backends that cannot tell a shape from the id."""

    token: int = 0
    covered: int = 0
    pins: dict[str, list[str]] = field(default_factory=dict)
    groups: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)
    versions: dict[str, tuple[int, int]] = field(default_factory=dict)

    def kept(self) -> set[bytes]:
        """Every version that a pin, a group or a stage holds."""
        names = {name for held in self.pins.values() for name in held}
        names.update(name for _, held in self.groups.values() for name in held)
        names.update(stage.version for stage in self.stages.values())
        return {bytes.fromhex(name) for name in names}


class StateFile:
    """The state on a disk; replaced as a whole, so that after a crash either the old or the new one is there."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self.state = State()
        self.token = 0

    def load(self) -> None:
        """Raises DamagedData, Unavailable for a newer format."""
        if not self._disk.exists(self._path):
            self.state = State()
            return
        file = self._disk.open(self._path, read_only=True)
        try:
            data = file.pread(min(file.size(), STATE_BYTES_MAX), 0)
        finally:
            file.close()
        try:
            self.state = _parse(json.loads(data))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise DamagedData("the state of the backend cannot be read", str(exc)) from exc

    def take(self, token: int) -> None:
        """Become the one who may change things. Raises StaleToken."""
        self.load()
        if token < self.state.token:
            raise StaleToken(f"token {token} is older than {self.state.token}; somebody newer took over")
        self.token = token
        self.change(lambda state: setattr(state, "token", token))

    def change(self, edit: Callable[[State], None]) -> None:
        """Read, edit, replace; durable when it returns. Raises StaleToken when somebody newer took over."""
        self.load()
        if self.token < self.state.token:
            raise StaleToken(f"token {self.token} is older than {self.state.token}; somebody newer took over")
        edit(self.state)
        write_atomic(self._disk, self._path, json.dumps(_plain(self.state), sort_keys=True).encode())

    # --- edits that are the same for every backend

    def pin(self, version: bytes, owner: str) -> None:
        def edit(state: State) -> None:
            held = state.pins.setdefault(owner, [])
            if version.hex() not in held:
                held.append(version.hex())

        self.change(edit)

    def unpin(self, version: bytes, owner: str) -> None:
        def edit(state: State) -> None:
            held = [name for name in state.pins.get(owner, []) if name != version.hex()]
            state.pins.pop(owner, None)
            if held:
                state.pins[owner] = held

        self.change(edit)

    def add_group(self, name: str, versions: list[bytes], position: int) -> None:
        """Raises AlreadyExists when the name stands for something else."""
        wanted = (position, [version.hex() for version in versions])

        def edit(state: State) -> None:
            if state.groups.setdefault(name, wanted) != wanted:
                raise AlreadyExists(f"the group {name} exists with another content")

        self.change(edit)

    def group(self, name: str) -> tuple[int, list[bytes]]:
        self.load()
        if name not in self.state.groups:
            raise NotFound(f"there is no group {name}")
        position, names = self.state.groups[name]
        return position, [bytes.fromhex(version) for version in names]

    def drop_group(self, name: str) -> None:
        def edit(state: State) -> None:
            state.groups.pop(name, None)

        self.change(edit)

    def stage(self, key: str) -> Stage:
        if key not in self.state.stages:
            raise NotFound(f"there is no incoming version {key}")
        return self.state.stages[key]

    def set_stage(self, key: str, stage: Stage | None) -> None:
        """None ends it."""

        def edit(state: State) -> None:
            state.stages.pop(key, None)
            if stage is not None:
                state.stages[key] = stage

        self.change(edit)

    def publish(self, key: str) -> bytes:
        """The stage becomes a pinned version in one step; a repeated call finds the pin."""
        owner = f"stage:{key}"
        self.load()
        if key not in self.state.stages and owner in self.state.pins:
            return bytes.fromhex(self.state.pins[owner][0])
        version = self.stage(key).version

        def edit(state: State) -> None:
            del state.stages[key]
            state.pins[owner] = [version]

        self.change(edit)
        return bytes.fromhex(version)


def _plain(state: State) -> dict[str, object]:
    return {
        "format": FORMAT,
        "token": state.token,
        "covered": state.covered,
        "pins": state.pins,
        "groups": state.groups,
        "stages": {key: [s.version, s.size_bytes, s.chunk_bytes] for key, s in state.stages.items()},
        "versions": state.versions,
    }


def _parse(found: dict[str, object]) -> State:
    if found["format"] != FORMAT:
        raise Unavailable(f"the backend's state has format {found['format']}; this engine knows {FORMAT}")
    state = State(token=_number(found["token"]), covered=_number(found["covered"]))
    state.pins = {str(owner): _names(held) for owner, held in _items(found["pins"])}
    state.groups = {str(name): (_number(value[0]), _names(value[1])) for name, value in _items(found["groups"])}
    state.stages = {str(k): Stage(_names([v[0]])[0], _number(v[1]), _number(v[2])) for k, v in _items(found["stages"])}
    state.versions = {_names([k])[0]: (_number(v[0]), _number(v[1])) for k, v in _items(found["versions"])}
    return state


def _items(value: object) -> list[tuple[object, list[object]]]:
    if not isinstance(value, dict) or not all(isinstance(entry, list) for entry in value.values()):
        raise TypeError("a table of the state is no table")
    return list(value.items())


def _number(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError("a number of the state is no number")
    return value


def _names(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("a list of the state is no list")
    return [bytes.fromhex(str(name)).hex() for name in value]
