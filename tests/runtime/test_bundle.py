# SPDX-License-Identifier: Apache-2.0
"""The support bundle holds what helps, and no secret: each kind is planted where it might stand, then looked for."""

from __future__ import annotations

import gzip
import json
import stat
import tarfile
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from prism.layout import Layout, SiteConfig
from prism.runtime.bundle import archive
from prism.runtime.bundle.collect import LOG_BYTES_MAX, TABLES
from prism.runtime.bundle.scrub import HIDDEN, scrub
from prism.runtime.certificates import ensure_web_certificate
from stargate.peer.identity import create_identity

Made = tuple[Layout, SiteConfig]
KEY_BODY = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"
#: line of a log -> what of it must not leave
PLANTED = {
    "GET /api/v1/ Authorization: Bearer prism_qvUaYkqT3dXc0JmVnYt5bR8wLzE2sHfG9iKoPuNxAyM": "qvUaYkqT3dXc",
    "made token prism_ZZvUaYkqT3dXc0JmVnYt5bR8wLzE2sHfG9iKoPuNxAy": "ZZvUaYkqT",
    "Authorization: Basic bWFyaWE6aHVudGVyMg==": "bWFyaWE6aHVudGVyMg",
    "Cookie: sessionid=a8f5f167f44f4964e6c998dee827110c; csrftoken=Xk2jH8": "a8f5f167f44f4964",
    "Set-Cookie: csrftoken=Qw3rTyUiOpAsDfGh; Path=/": "Qw3rTyUiOp",
    "{'sessionid': 'deadbeefcafe0123', 'x': 1}": "deadbeefcafe",
    '{"password": "correct \\"horse\\" battery", "name": "maria"}': "horse",
    '"{\\"new_password\\": \\"staple-of-json\\"}"': "staple-of-json",
    "user admin   password kJ8-hT5wQ2mN": "kJ8-hT5wQ2mN",
    "New password of maria: pL9_xV4cB7nM": "pL9_xV4cB7nM",
    "connecting to postgresql://prism:Tr0ub4dor@db.example/prism": "Tr0ub4dor",
    "DATABASE_PASSWORD=xkcd936staple": "xkcd936staple",
    "otpauth://totp/Prism:maria?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Prism": "JBSWY3DPEHPK3PXP",
    "the authenticator shows KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU": "KRSXG5CTMVRXEZLU",
    "totp_key: 3132333435363738393031323334353637383930": "31323334353637383930",
    "recovery_codes=['4821-9913', '7710-2264']": "9913",
    "pairing with 7F3K-0QWX-9ABD-MZ42": "0QWX",
    f"-----BEGIN EC PRIVATE KEY-----\n{KEY_BODY}\n-----END EC PRIVATE KEY-----": KEY_BODY,
    f'{{"pem": "-----BEGIN PRIVATE KEY-----\\n{KEY_BODY[::-1]}\\n-----END PRIVATE KEY-----"}}': KEY_BODY[::-1],
    '{"token": "never-closed-abcdef': "never-closed",
    "recovery_codes=['5512-0091', '6": "5512-0091",
    "secret_key = django-insecure-0123456789": "django-insecure",
}


@pytest.fixture
def planted(site: Made) -> Layout:
    """A stopped site with secrets in its logs, its identity and beside them."""
    layout, config = site
    create_identity(layout.identity, "test")
    ensure_web_certificate(layout.identity, site_name="test", listen=config.listen)
    layout.secret_key_file.write_text("own-secret-of-django-9f8e7d\n")
    own = (layout.identity / "site.key").read_text().splitlines()[1]
    lines = [*PLANTED, f"loaded {own}", "using own-secret-of-django-9f8e7d now", "An ordinary line of the log."]
    (layout.logs / "web.log").write_text("\n".join(lines) + "\n")
    (layout.logs / "web.log.1").write_text("An older line.\n")
    (layout.logs / "cut.log").write_text(f"{KEY_BODY.lower()}\n-----END PRIVATE KEY-----\nafter the key\n")
    (layout.logs / "link.log").symlink_to(layout.identity / "web.key")
    (layout.uploads / "image.raw").write_text("bytes of a guest")
    return layout


def texts(path: Path) -> dict[str, str]:
    with tarfile.open(path) as found:
        return {
            entry.name.removeprefix("prism-support/"): file.read().decode()
            for entry in found
            if (file := found.extractfile(entry)) is not None
        }


def test_it_holds_no_secret(planted: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:s%23cret-of-the-url@db/x")
    with (planted.logs / "web.log").open("a") as log:
        log.write("the server said s#cret-of-the-url and s%23cret-of-the-url\n")
    out = tmp_path / "bundle.tar.gz"
    archive.write(out, planted.data.parent)
    everything = gzip.decompress(out.read_bytes()).decode(errors="replace")
    keys = [line for path in planted.identity.rglob("*.key") for line in path.read_text().splitlines()]
    own = [line for line in keys if not line.startswith("-----")]
    wanted = [*PLANTED.values(), *own, KEY_BODY.lower(), "cret-of-the-url", "bytes of a guest"]
    assert len(own) >= 4
    assert [secret for secret in wanted if secret in everything] == []
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_it_holds_what_helps(planted: Layout, tmp_path: Path) -> None:
    out = tmp_path / "bundle.tar.gz"
    said = StringIO()
    call_command("support_bundle", "--root", str(planted.data.parent), "--out", str(out), stdout=said)
    found = texts(out)
    assert found["site1/logs/web.log"].startswith("An older line.\n")
    assert "An ordinary line of the log." in found["site1/logs/web.log"]
    assert found["site1/logs/cut.log"] == f"{HIDDEN}\nafter the key\n"
    assert "cannot be read" in found["site1/logs/link.log"]
    assert json.loads(found["site1/site.json"])["name"] == "site1"
    assert any(row["level"] for row in json.loads(found["site1/doctor.json"]))
    assert json.loads(found["machine.json"])["python"]
    assert "uploads/image.raw" in found["site1/files.txt"]
    assert "Look through it" in said.getvalue()


def test_its_size_is_bounded(planted: Layout, tmp_path: Path) -> None:
    line = "x" * 99 + "\n"
    (planted.logs / "big.log").write_text(line * (LOG_BYTES_MAX // 100 + 1000) + "the end\n")
    out = tmp_path / "bundle.tar.gz"
    assert archive.write(out, planted.data.parent) == []
    big = texts(out)["site1/logs/big.log"]
    assert len(big) <= LOG_BYTES_MAX
    assert big.endswith("the end\n")
    assert big.startswith("xxx")
    assert archive.write(out, planted.data.parent, most=200_000) == ["site1/logs/big.log"]
    assert "site1/logs/web.log" in texts(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.tar.gz"]


def test_it_leaves_ordinary_words_alone() -> None:
    for text in (
        "Task 4f1c failed: no_space (HTTP 507) after 3 attempts",
        "password as before",
        "GET /api/v1/tokens/ 200",
        "nbd://127.0.0.1:10809/vm-mail-scsi0",
        '{"code": "no_space", "session": null}'.replace("session", "kind"),
    ):
        assert scrub(text) == text


def test_it_takes_no_time_over_hostile_lines() -> None:
    for piece in ("token=[", "a.", "://a:", '"password": "', "-----BEGIN ", "(secret=("):
        scrub(piece * (200_000 // len(piece)))


def test_the_columns_it_reads_exist() -> None:
    from django.apps import apps

    known = {model._meta.db_table: {field.column for field in model._meta.fields} for model in apps.get_models()}
    for table, (order, columns) in TABLES.items():
        assert {order, *columns.split()} <= known[table]
        assert not {"arguments", "detail", "token_hash", "code_hash", "certificate_pem"} & set(columns.split())
