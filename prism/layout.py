# SPDX-License-Identifier: Apache-2.0
"""Where a site keeps its things, and `site.json`, its small identity card. Imports no Django: settings read it."""

import json
import os
import secrets
import tempfile
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

#: `sun_path` holds 108 bytes with its closing zero.
SOCKET_PATH_LIMIT_BYTES = 107
#: Longest socket name that any process puts into the Postgres socket folder or the run folder.
_LONGEST_SOCKET_NAME = "pg/.s.PGSQL.5432.lock"
FORMAT = 1
DEFAULT_PORTS = {"web": 9440, "control": 2020, "nbd": 10809, "peer": 2009}
#: Ids stay below 2**31 so that composite snapshot ids remain readable and fit an integer column.
_ID_BITS = 31


class LayoutError(Exception):
    """The site's folder cannot be used; the message says what to do."""


@dataclass
class SiteConfig:
    """Content of `site.json`. `steps` maps a first-start step ("admin", "paired", "demo") to when it was done."""

    number: int
    name: str
    uuid: str
    cluster_id: int
    incarnation_id: int
    listen: str
    ports: dict[str, int]
    socket_dir: str
    steps: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True)
class Layout:
    """Paths inside one site's data folder."""

    data: Path

    @property
    def site_json(self) -> Path:
        return self.data / "site.json"

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def identity(self) -> Path:
        return self.data / "identity"

    @property
    def secret_key_file(self) -> Path:
        return self.identity / "secret.key"

    @property
    def postgres(self) -> Path:
        return self.data / "postgres"

    @property
    def redis(self) -> Path:
        return self.data / "redis"

    @property
    def uploads(self) -> Path:
        return self.data / "uploads"

    def make_folders(self) -> None:
        """Create the folders of a site; private to its owner."""
        for folder in (self.data, self.run, self.logs, self.identity, self.redis, self.uploads):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self) -> SiteConfig | None:
        """Read `site.json`; None when the site was never started. Raises `LayoutError` for one we cannot read."""
        try:
            raw = json.loads(self.site_json.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise LayoutError(f"{self.site_json} cannot be read ({error}); restore it from a backup.") from error
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise LayoutError(f"{self.site_json} has another format than {FORMAT}; use the release that wrote it.")
        try:
            return SiteConfig(**raw)
        except TypeError as error:
            raise LayoutError(f"{self.site_json} is damaged ({error}); restore it from a backup.") from error

    def save(self, config: SiteConfig) -> None:
        """Write `site.json` durably: a crash leaves the old or the new file, never half of one."""
        with tempfile.NamedTemporaryFile("w", dir=self.data, prefix=".site-", delete=False) as handle:
            json.dump(asdict(config), handle, indent=2)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(handle.name, self.site_json)
        folder = os.open(self.data, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def create(self, *, number: int, listen: str, name: str | None = None) -> SiteConfig:
        """Give a new site its identity and write it down; without a name it is called after its number."""
        self.make_folders()
        config = SiteConfig(
            number=number,
            name=name or f"site{number}",
            uuid=str(uuid.uuid4()),
            cluster_id=secrets.randbits(_ID_BITS) or 1,
            incarnation_id=secrets.randbits(_ID_BITS) or 1,
            listen=listen,
            ports=dict(DEFAULT_PORTS),
            socket_dir=str(choose_socket_dir(self.run)),
        )
        self.save(config)
        return config

    def renew_socket_dir(self, config: SiteConfig) -> None:
        """Make sure that the recorded socket folder exists and is ours; a reboot may have emptied /tmp."""
        folder = Path(config.socket_dir)
        moved = folder.name == self.run.name and folder != self.run
        if not moved and folder.is_dir() and folder.stat().st_uid == os.geteuid():
            return
        config.socket_dir = str(choose_socket_dir(self.run))
        self.save(config)


def choose_socket_dir(run: Path) -> Path:
    """Folder for the sockets of Postgres and Redis: `run` itself, or a short private one when its path is too long."""
    if len(os.fsencode(run / _LONGEST_SOCKET_NAME)) <= SOCKET_PATH_LIMIT_BYTES:
        return run
    base = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
    return Path(tempfile.mkdtemp(prefix="prism-", dir=base))


def database_url(socket_dir: Path, *, database: str = "prism") -> str:
    """URL of the embedded Postgres whose sockets lie below `socket_dir`."""
    return f"postgresql://prism@/{database}?host={quote(str(socket_dir / 'pg'), safe='/')}"


def redis_url(socket_dir: Path, *, number: int = 0) -> str:
    """URL of the embedded Redis, for redis-py."""
    return f"unix://{socket_dir / 'redis.sock'}?db={number}"
