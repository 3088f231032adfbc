# SPDX-License-Identifier: Apache-2.0
"""The site's folder: identity that stays, short socket paths, logs that turn over, certificates that fit."""

import stat
from pathlib import Path

import pytest
from cryptography import x509

from prism.layout import SOCKET_PATH_LIMIT_BYTES, Layout, LayoutError, choose_socket_dir
from prism.runtime import bringup
from prism.runtime.certificates import ensure_web_certificate
from prism.runtime.logs import RotatedFile


def test_a_site_keeps_its_identity(short_dir: Path) -> None:
    plan = bringup.Plan(root=short_dir, sites=1, listen=None)
    layout, first = bringup.open_site(plan, 1)
    kept = {path: path.read_bytes() for path in layout.identity.iterdir()}
    assert {path.name for path in kept} >= {"site.crt", "site.key", "web.crt", "web.key", "secret.key"}
    _, again = bringup.open_site(plan, 1)
    assert again == first
    assert {path: path.read_bytes() for path in layout.identity.iterdir()} == kept
    assert stat.S_IMODE(layout.data.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept if path.suffix == ".key"} == {0o600}


def test_it_refuses_a_damaged_site_json(short_dir: Path) -> None:
    layout = Layout(short_dir)
    for content in ("{", "[]", '{"format": 99}', '{"format": 1, "number": 1}'):
        layout.site_json.write_text(content)
        with pytest.raises(LayoutError):
            layout.load()


def test_it_moves_sockets_to_a_short_folder_when_the_path_is_long(
    tmp_path: Path, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))
    assert choose_socket_dir(short_dir) == short_dir
    chosen = choose_socket_dir(tmp_path / ("x" * 90))
    assert chosen.parent == short_dir
    assert len(str(chosen / "pg/.s.PGSQL.5432.lock")) <= SOCKET_PATH_LIMIT_BYTES
    assert stat.S_IMODE(chosen.stat().st_mode) == 0o700


def test_a_log_turns_over_and_forgets_the_oldest(tmp_path: Path) -> None:
    log = RotatedFile(tmp_path / "web.log", max_bytes=10, keep=2)
    for line in (b"first...\n", b"second..\n", b"third...\n", b"fourth..\n"):
        log.write(line)
    log.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "web.log": b"fourth..\n",
        "web.log.1": b"third...\n",
        "web.log.2": b"second..\n",
    }


def test_the_web_certificate_follows_the_address(tmp_path: Path) -> None:
    def names() -> list[str]:
        certificate = x509.load_pem_x509_certificate((tmp_path / "web.crt").read_bytes())
        value = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(address) for address in value.get_values_for_type(x509.IPAddress)]

    ensure_web_certificate(tmp_path, site_name="site1", listen="127.0.0.2")
    assert names() == ["127.0.0.1", "127.0.0.2"]
    ensure_web_certificate(tmp_path, site_name="site1", listen="192.0.2.7")
    assert names() == ["127.0.0.1", "192.0.2.7"]
