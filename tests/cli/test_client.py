# SPDX-License-Identifier: Apache-2.0
"""The command-line client against a site: its orders, its forms, its exit statuses, and what it never shows."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from prism.cli.app import cli
from prism.cli.errors import Exit
from prism.runtime.children import ROOT
from tests.cli.conftest import Ran, Served, run_prism

Prism = Callable[..., Ran]


def made(ran: Ran) -> Any:
    """The JSON that a successful call printed."""
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def with_a_vm(prism: Prism) -> dict[str, Any]:
    """A container, a VM, and a domain that protects it."""
    assert prism("ctr", "create", "default").returncode == 0
    vm: dict[str, Any] = made(prism("vm", "create", "mail", "--disk", "1M", "-o", "json"))
    assert vm["disks"][0]["size_bytes"] == 2**20
    assert prism("pd", "create", "pd1").returncode == 0
    domain = made(prism("pd", "protect", "pd1", "--vm", "mail", "--cg-name", "cg", "-o", "json"))
    assert [(row["name"], row["group"]) for row in domain["entities"]] == [("mail", "cg")]
    return vm


def test_it_protects_snapshots_clones_and_restores(prism: Prism) -> None:
    vm = with_a_vm(prism)
    task = made(prism("pd", "snapshot", "pd1", "--retention-time", "3600", "--wait", "-o", "json"))
    assert task["state"] == "succeeded"
    (row,) = made(prism("snapshot", "ls", "--pd", "pd1", "-o", "json"))
    assert row["uuid"] == task["result"]["snapshot"]
    cloned = prism("snapshot", "clone", row["id"], "--vm-name-prefix", "new-", "--entity", "mail", "--wait")
    assert cloned.returncode == 0, cloned.stderr
    assert {found["name"] for found in made(prism("vm", "ls", "-o", "json"))} == {"mail", "new-mail"}
    restored = prism("snapshot", "restore", row["uuid"], "--yes", "--wait")
    assert restored.returncode == 0, restored.stderr
    assert restored.stdout.startswith("Task ")
    assert "succeeded" in restored.stdout
    assert made(prism("vm", "show", "mail", "-o", "json"))["uuid"] == vm["uuid"]
    assert prism("pd", "unprotect", "pd1", "mail").returncode == 0
    assert prism("snapshot", "rm", row["id"], "--yes").returncode == 0


def test_it_carries_out_a_repeated_order_once(prism: Prism) -> None:
    with_a_vm(prism)
    order = ("pd", "snapshot", "pd1", "--idempotency-key", "before upgrade", "--wait", "-o", "json")
    assert made(prism(*order))["uuid"] == made(prism(*order))["uuid"]
    assert len(made(prism("snapshot", "ls", "-o", "json"))) == 1


def test_it_shows_the_same_rows_in_every_form(prism: Prism) -> None:
    for name in ("pd1", "pd2", "pd3"):
        assert prism("pd", "create", name).returncode == 0
    rows = made(prism("pd", "ls", "-o", "json"))
    assert yaml.safe_load(prism("pd", "list", "-o", "yaml").stdout) == rows
    table = prism("pd", "ls").stdout.splitlines()
    assert table[0].split() == ["NAME", "MODE", "PHASE", "STALE", "ENTITIES", "SUSPENDED", "UUID"]
    assert {line.split()[0] for line in table[1:]} == {"pd1", "pd2", "pd3"}
    few = prism("pd", "ls", "--limit", "2")
    assert len(few.stdout.splitlines()) == 3
    assert "2 of 3" in few.stderr
    assert len(made(prism("pd", "ls", "--limit", "0", "-o", "json"))) == 3


def test_it_tells_kinds_of_failure_apart_by_the_exit_status(prism: Prism, served: Served) -> None:
    def status(*arguments: str, **environment: str) -> int:
        ran = prism(*arguments, **environment)
        assert "Traceback" not in ran.stderr
        assert ran.returncode == 0 or "Error: " in ran.stderr, ran.stderr
        return ran.returncode

    assert status("site", "show") == Exit.DONE
    assert status("pd", "nothing") == Exit.USAGE
    assert status("pd", "rm", "pd1") == Exit.NOT_FOUND
    assert status("pd", "show", "pd1") == Exit.NOT_FOUND
    assert status("task", "show", "6b6c1d7e-0000-4000-8000-000000000000") == Exit.NOT_FOUND
    assert status("site", "show", PRISM_TOKEN="prism_wrong") == Exit.NOT_ALLOWED
    assert status("pd", "create", "../etc") == Exit.INVALID
    assert status("pd", "create", "pd1") == Exit.DONE
    assert status("pd", "create", "pd1") in (Exit.REFUSED, Exit.INVALID)
    assert status("pd", "rm", "pd1") == Exit.USAGE  # nobody to ask
    assert status("site", "show", PRISM_SITE="https://127.0.0.1:1") == Exit.UNREACHABLE
    assert status("site", "show", PRISM_SITE=served.url.replace("https", "http")) == Exit.USAGE


def test_it_does_not_trust_an_unknown_certificate(prism: Prism, served: Served) -> None:
    ran = run_prism("site", "show", PRISM_SITE=served.url, PRISM_TOKEN=served.token)
    assert ran.returncode == Exit.UNREACHABLE
    assert "--ca" in ran.stderr


def test_it_waits_no_longer_than_told(prism: Prism) -> None:
    from prism.core.actor import Actor
    from prism.core.models import Task

    task = Task.objects.create(kind="test", object_name="x\x1b[31m", actor=str(Actor.cli("t")), state="running")
    ran = prism("task", "wait", str(task.pk), "--timeout", "0.3")
    assert ran.returncode == Exit.TIMED_OUT
    Task.objects.filter(pk=task.pk).update(state="failed", error="The disk is gone.")
    ran = prism("task", "wait", str(task.pk))
    assert ran.returncode == Exit.TASK_FAILED
    assert "The disk is gone." in ran.stdout
    assert ran.stderr == ""  # no progress where no terminal is
    listed = prism("task", "ls").stdout
    assert "\x1b" not in listed
    assert "x\N{REPLACEMENT CHARACTER}[31m" in listed


def test_it_keeps_the_token_to_itself(served: Served, tmp_path: Path) -> None:
    config = tmp_path / "own" / "config.ini"
    known = {"PRISM_CONFIG": str(config)}
    login = run_prism(
        "login", "home", "--url", served.url, "--ca", str(served.certificate), stdin=f"{served.token}\n", **known
    )
    assert login.returncode == 0, login.stderr
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    shown = [login, run_prism("site", "show", **known), run_prism("token", "ls", "-o", "json", **known)]
    shown.append(run_prism("site", "show", "--site", "elsewhere", **known))
    assert [ran.returncode for ran in shown] == [0, 0, 0, Exit.USAGE]
    config.chmod(0o640)
    shown.append(run_prism("site", "show", **known))
    assert shown[-1].returncode == Exit.USAGE
    assert "chmod 600" in shown[-1].stderr
    config.chmod(0o600)
    config.write_text(f"{served.token}\n[broken")
    shown.append(run_prism("site", "show", **known))
    assert shown[-1].returncode == Exit.USAGE
    assert not [ran for ran in shown if served.token in ran.stdout + ran.stderr]


def test_it_gives_the_token_of_the_environment_to_no_other_site(tmp_path: Path) -> None:
    config = tmp_path / "config.ini"
    config.write_text("[site other]\nurl = https://127.0.0.1:1\n")
    config.chmod(0o600)
    ran = run_prism("site", "show", "--site", "other", PRISM_CONFIG=str(config), PRISM_TOKEN="prism_x", PRISM_SITE="a")
    assert ran.returncode == Exit.NOT_ALLOWED


def test_it_starts_without_django_and_without_the_engine() -> None:
    code = "import sys, prism.cli.app; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [name for name in ("django", "rest_framework", "stargate", "yaml", "asyncio") if f"'{name}'" in loaded] == []


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_it_completes(shell: str) -> None:
    script = run_prism("completion", shell)
    assert script.returncode == 0, script.stderr
    assert "_PRISM_COMPLETE" in script.stdout
    offered = run_prism(_PRISM_COMPLETE="bash_complete", COMP_WORDS="prism pd mi", COMP_CWORD="2")
    assert "plain,migrate" in offered.stdout


def test_every_command_says_what_it_does() -> None:
    for group in cli.commands.values():
        for name, command in getattr(group, "commands", {}).items():
            assert command.help, f"{group.name} {name}"
            assert {"output", "site", "ca"} <= {option.name for option in command.params}
