# SPDX-License-Identifier: Apache-2.0
"""What `make up` refuses before it starts anything: each time with the next step."""

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from prism.runtime import bringup, preflight
from prism.runtime.children import ROOT
from prism.runtime.lock import AlreadyRunning, SupervisorLock, holder


def up(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "manage.py"), "up", "--root", str(root), *arguments]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "prism.settings"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


def test_it_names_the_holder_of_an_occupied_port(free_port: int) -> None:
    refusal = pytest.raises(preflight.PreflightError, match=rf"already in use by .*pid {os.getpid()}\).*ss -ltnp")
    with socket.create_server(("127.0.0.1", free_port)), refusal:
        preflight.check_ports("127.0.0.1", {"web": free_port})
    preflight.check_ports("127.0.0.1", {"web": free_port})


def test_it_refuses_an_address_of_another_machine() -> None:
    with pytest.raises(preflight.PreflightError, match="not an address of this machine"):
        preflight.check_ports("192.0.2.1", {"web": 9440})


def test_it_refuses_a_name_for_an_address() -> None:
    with pytest.raises(preflight.PreflightError, match="not an IP address"):
        preflight.check_address("storage.example")


def test_it_wants_free_space(tmp_path: Path) -> None:
    with pytest.raises(preflight.PreflightError, match="Free some space"):
        preflight.check_space(tmp_path, min_free_bytes=1 << 60)


def test_it_refuses_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(preflight.PreflightError, match="DATA=/path/to/folder"):
        preflight.check_folder(tmp_path / "file" / "var")


@pytest.mark.root
def test_it_refuses_the_site_of_another_user(tmp_path: Path) -> None:
    os.chown(tmp_path, pwd.getpwnam("nobody").pw_uid, -1)
    with pytest.raises(preflight.PreflightError, match="made by user nobody"):
        preflight.check_owner(tmp_path)


def test_it_refuses_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(preflight.PreflightError, match="too long"):
        preflight.check_socket_paths(tmp_path / ("x" * 100) / "run")


def test_it_wants_one_site_for_a_given_address(tmp_path: Path) -> None:
    with pytest.raises(preflight.PreflightError, match="SITES=1"):
        bringup.check(bringup.Plan(root=tmp_path, sites=2, listen="127.0.0.1"))


def test_it_runs_once_per_data_root(tmp_path: Path) -> None:
    with SupervisorLock(tmp_path):
        found = holder(tmp_path)
        assert found is not None
        assert found.pid == os.getpid()
        with pytest.raises(AlreadyRunning), SupervisorLock(tmp_path):
            pytest.fail("two supervisors")
        result = up(tmp_path)
        assert result.returncode == 1
        assert f"Already running (pid {os.getpid()})" in result.stderr
        assert "make down" in result.stderr
    assert holder(tmp_path) is None


def test_a_lock_file_of_a_killed_supervisor_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "supervisor.lock").write_text('{"pid": 1, "ticks": 123456789012}')
    assert holder(tmp_path) is None
    with SupervisorLock(tmp_path):
        assert holder(tmp_path) is not None


def test_up_says_what_is_wrong_and_starts_nothing(tmp_path: Path) -> None:
    result = up(tmp_path, "--sites", "1", "--listen", "192.0.2.1")
    assert result.returncode == 1
    assert "not an address of this machine" in result.stderr
    assert "Nothing was started." in result.stderr
    assert not (tmp_path / "site1").exists()
