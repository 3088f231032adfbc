# SPDX-License-Identifier: Apache-2.0
"""The doctor names what is wrong, and how to mend it; beside a site that is down it looks at all that lies still."""

from __future__ import annotations

import datetime
import json
import socket
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.management import call_command

from prism.layout import Layout, SiteConfig
from prism.runtime.certificates import ensure_web_certificate
from prism.runtime.doctor import Finding, Level, examine
from stargate.peer.identity import create_identity

Made = tuple[Layout, SiteConfig]


@pytest.fixture
def whole(site: Made, free_port: int) -> Made:
    """A site that was set up and is stopped; on ports that are free."""
    layout, config = site
    config.ports = dict.fromkeys(config.ports, free_port)
    layout.save(config)
    create_identity(layout.identity, "test")
    ensure_web_certificate(layout.identity, site_name="test", listen=config.listen)
    layout.secret_key_file.write_text("secret")
    layout.secret_key_file.chmod(0o600)
    return layout, config


def bad(layout: Layout) -> list[Finding]:
    """What needs somebody, beside that the site is down."""
    return [one for one in examine(layout, running=False) if one.level and one.check != "processes"]


def only(layout: Layout) -> Finding:
    (found,) = bad(layout)
    assert found.message
    return found


def test_it_finds_nothing_wrong_with_a_site_that_is_whole(whole: Made) -> None:
    assert [one for one in bad(whole[0]) if one.check not in ("space", "packages")] == []


def test_it_finds_a_key_that_others_may_read(whole: Made) -> None:
    key = whole[0].identity / "site.key"
    key.chmod(0o644)
    found = only(whole[0])
    assert (found.check, found.level, found.mend) == ("permissions", Level.ERROR, f"chmod 600 {key}")


def test_it_finds_a_folder_that_others_may_enter(whole: Made) -> None:
    whole[0].data.chmod(0o755)
    assert only(whole[0]).mend == f"chmod 700 {whole[0].data}"


@pytest.mark.parametrize(("days_left", "level"), [(10, Level.WARNING), (-1, Level.ERROR)])
def test_it_finds_a_certificate_that_ends(whole: Made, days_left: int, level: Level) -> None:
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=820 - days_left)
    with time_machine.travel(then):
        found = only(whole[0])
    assert (found.check, found.level) == ("certificate", level)
    assert "web.crt" in found.message


def test_it_finds_a_certificate_of_another_key(whole: Made) -> None:
    identity = whole[0].identity
    (identity / "web.key").write_bytes((identity / "site.key").read_bytes())
    assert "does not belong to its key" in only(whole[0]).message


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"-----BEGIN CERTIFICATE-----\n"])
def test_it_finds_a_certificate_that_is_damaged(whole: Made, content: bytes) -> None:
    (whole[0].identity / "site.crt").write_bytes(content)
    found = only(whole[0])
    assert (found.check, found.level) == ("certificate", Level.ERROR)


def test_it_finds_a_port_that_is_taken(whole: Made, free_port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port))
        other.listen()
        found = only(whole[0])
    assert found.check == "ports"
    assert str(free_port) in found.message


def test_it_finds_an_identity_that_is_gone(whole: Made) -> None:
    (whole[0].identity / "site.key").unlink()
    assert "back-up" in only(whole[0]).mend


def test_it_finds_damage_of_the_site_file(whole: Made) -> None:
    whole[0].site_json.write_text("{")
    assert only(whole[0]).check == "site.json"


def test_it_says_of_a_running_site_what_does_not_answer(whole: Made) -> None:
    found = {one.check: one.level for one in examine(whole[0], running=True) if one.level}
    assert {"processes", "database", "redis", "engine"} <= set(found)
    assert set(found.values()) == {Level.ERROR}


def run(root: Path, *options: str) -> tuple[int, str]:
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", "--root", str(root), *options, stdout=out)
    return int(str(ended.value.code)), out.getvalue()


def test_its_exit_status_is_the_worst_it_found(whole: Made) -> None:
    root = whole[0].data.parent
    assert run(root)[0] == Level.WARNING  # it is down
    (whole[0].identity / "web.key").chmod(0o640)
    status, text = run(root, "--json")
    assert status == Level.ERROR
    rows: list[dict[str, Any]] = json.loads(text)["site1"]
    assert [row["mend"] for row in rows if row["level"] == "error"] == [f"chmod 600 {whole[0].identity / 'web.key'}"]
    assert "chmod 600" in run(root)[1]
