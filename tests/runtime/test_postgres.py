# SPDX-License-Identifier: Apache-2.0
"""The launcher of the embedded Postgres, as root and as an ordinary user, after kills, and below closed folders."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from prism.runtime import privilege
from prism.runtime.postgres import Postgres, environment

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def started(server: Postgres) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(server.command(server.prepare()), env=environment(), stderr=subprocess.DEVNULL, cwd="/")
    try:
        deadline = time.monotonic() + 60
        while not server.is_ready():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(30)


def server_in(folder: Path) -> Postgres:
    return Postgres(data=folder / "postgres", sockets=folder / "pg", durable=False)


def query(server: Postgres, sql: str) -> object:
    with psycopg.connect(host=str(server.sockets), user="prism", dbname="prism", autocommit=True) as connection:
        cursor = connection.execute(sql)  # type: ignore[call-overload]
        return cursor.fetchone() if cursor.description else None


def test_it_keeps_its_data_over_a_kill_of_every_process(short_dir: Path) -> None:
    server = Postgres(data=short_dir / "postgres", sockets=short_dir / "pg", durable=True)
    with started(server) as process:
        server.ensure_database("prism")
        server.ensure_database("prism")
        query(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        process.kill()
        process.wait()
    assert (server.data / "postmaster.pid").exists()
    with started(server):
        assert query(server, "SELECT answer FROM kept") == (42,)


def test_it_starts_although_a_backend_outlived_its_killed_server(short_dir: Path) -> None:
    """As after kill -9 of all while one held a lock: who waits for it never learns that its server is gone."""
    server = server_in(short_dir)
    with started(server) as process:
        server.ensure_database("prism")
        with psycopg.connect(host=str(server.sockets), user="prism", dbname="prism") as connection:
            backend = connection.info.backend_pid
            os.kill(backend, signal.SIGSTOP)
            process.kill()
            process.wait()
            assert backend in [orphan.pid for orphan in server.orphans()]
            with subprocess.Popen(["sleep", "60"], cwd=server.data) as bystander, started(server):
                assert query(server, "SELECT 1") == (1,)
                assert bystander.poll() is None
                bystander.kill()
    assert server.orphans() == []


def test_it_starts_when_the_pid_in_a_stale_file_belongs_to_somebody_else(short_dir: Path) -> None:
    server = server_in(short_dir)
    with started(server):
        stale = (server.data / "postmaster.pid").read_text()
    number, rest = stale.split("\n", 1)
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n{rest}")
    assert server.owner_pid() is None
    with started(server) as process:
        assert server.owner_pid() == process.pid
        assert number != str(process.pid)


def test_it_opens_no_tcp_port_and_a_private_socket_folder(short_dir: Path) -> None:
    server = server_in(short_dir)
    with started(server):
        server.ensure_database("prism")
        assert query(server, "SHOW listen_addresses") == ("",)
        assert stat.S_IMODE(server.sockets.stat().st_mode) == 0o700


@pytest.mark.root
def test_it_runs_as_an_unprivileged_user_and_changes_nothing_above_its_folder(short_dir: Path) -> None:
    short_dir.chmod(0o711)
    server = server_in(short_dir)
    with started(server) as process:
        owner = Path(f"/proc/{process.pid}").stat().st_uid
        assert owner == server.data.stat().st_uid != 0
    assert stat.S_IMODE(short_dir.stat().st_mode) == 0o711
    assert short_dir.stat().st_uid == 0


@pytest.mark.root
def test_it_runs_below_a_folder_that_is_closed_to_its_user(short_dir: Path) -> None:
    closed = short_dir / "closed"
    closed.mkdir(mode=0o700)
    server = server_in(closed)
    with started(server):
        server.ensure_database("prism")
        assert query(server, "SELECT 1") == (1,)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.root
def test_it_runs_with_its_own_programs_below_a_closed_folder(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone in /root: data, sockets and the wheel's programs are all behind a folder that only root may pass."""
    closed = short_dir / "closed"
    closed.mkdir(mode=0o700)
    programs = Postgres.binaries()
    wheel = programs.parents[1]
    for name in (wheel.name, f"{wheel.name}.libs"):  # the programs find their libraries beside the package
        if (wheel.parent / name).exists():
            shutil.copytree(wheel.parent / name, closed / name, symlinks=True)
    moved = closed / programs.relative_to(wheel.parent)
    monkeypatch.setattr(Postgres, "binaries", staticmethod(lambda: moved))
    server = server_in(closed)
    with started(server):
        server.ensure_database("prism")
        assert query(server, "SELECT 1") == (1,)


@pytest.mark.root
def test_it_says_what_to_do_when_the_folder_stays_closed(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = short_dir / "closed"
    (closed / "postgres").mkdir(parents=True)
    closed.chmod(0o700)
    monkeypatch.setattr(privilege, "_TRAVERSE_CAPABILITIES", ())
    with pytest.raises(privilege.PrivilegeError, match=r"chmod o\+x"):
        privilege.for_data_folder(closed / "postgres")


@pytest.mark.root
def test_it_runs_as_an_ordinary_user(short_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    home = short_dir / "home"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    script = (
        "import sys, os; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
        "from prism.runtime.postgres import Postgres; "
        "s = Postgres(data=Path(sys.argv[2]) / 'postgres', sockets=Path(sys.argv[2]) / 'pg', durable=False); "
        "run = s.prepare(); assert not run.switch; c = s.command(run); os.execvpe(c[0], c, {})"
    )
    # The libraries of the interpreter are reachable for every user only where it is a system one: pass by capability.
    user = privilege.RunAs(nobody.pw_uid, nobody.pw_gid, switch=True, capability="dac_read_search")
    command = [*user.prefix(death_signal="KILL"), sys.executable, "-c", script, str(ROOT), str(home)]
    server = server_in(home)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd="/")
    try:
        deadline = time.monotonic() + 60
        while not server.is_ready():
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server.data.stat().st_uid == nobody.pw_uid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        if process.stderr:
            process.stderr.close()


def test_it_refuses_a_folder_of_another_user(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = short_dir / "postgres"
    data.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: data.stat().st_uid + 4242)
    with pytest.raises(privilege.PrivilegeError, match="Start as the user who started it first"):
        privilege.for_data_folder(data)
