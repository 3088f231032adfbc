# SPDX-License-Identifier: Apache-2.0
"""Which site, with which token: from the environment, else from a file that only its owner may read.

The token is never an argument: other users of the machine can read the arguments of a process.
"""

from __future__ import annotations

import configparser
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from prism.cli.errors import CliError, Exit

DEFAULT_PORT = 9440
_SETUP = "Run `prism login NAME --url https://ADDRESS:9440 --ca web.crt`, or set PRISM_SITE and PRISM_TOKEN."


@dataclass(frozen=True)
class Target:
    """A site to speak to. `ca` None: the system's certificate authorities."""

    host: str
    port: int
    token: str
    ca: Path | None

    def __repr__(self) -> str:
        return f"Target({self.host}:{self.port})"  # never the token


def config_path() -> Path:
    """`$PRISM_CONFIG`, else `prism-dr/config.ini` in the user's configuration folder."""
    if own := os.environ.get("PRISM_CONFIG"):
        return Path(own)
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "prism-dr" / "config.ini"


def load(path: Path) -> configparser.ConfigParser:
    """The file's sections, none when there is no file. Refuses one that others may read or write."""
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise CliError(
                    f"{path} holds tokens, and others may read it (mode {stat.S_IMODE(mode):o}).",
                    f"Run `chmod 600 {path}`, and revoke its tokens if somebody may have looked.",
                    code=Exit.USAGE,
                )
            parser.read_file(file)
    except FileNotFoundError:
        return parser
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        # The parser's own message would show the line, and with it perhaps the token.
        raise CliError(f"{path} cannot be read ({type(error).__name__}).", _SETUP, code=Exit.USAGE) from None
    return parser


def save(path: Path, name: str, *, url: str, token: str, ca: Path | None) -> None:
    """Add or replace a site; the first one becomes the default. The file has mode 0600 from its first byte on."""
    split_url(url)
    parser = load(path)
    parser[f"site {name}"] = {"url": url, "token": token, **({"ca": str(ca.resolve())} if ca else {})}
    if not parser.has_option("client", "default"):
        parser["client"] = {"default": name}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        parser.write(file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def site_names() -> list[str]:
    """Names of the sites in the file, for completion."""
    return [name.removeprefix("site ") for name in load(config_path()).sections() if name.startswith("site ")]


def target(site: str | None, ca: str | None) -> Target:
    """`site`: a name of the file, or an https address; None = PRISM_SITE, else the file's default."""
    parser = load(config_path())
    wanted = site or os.environ.get("PRISM_SITE") or parser.get("client", "default", fallback="")
    if not wanted:
        raise CliError("Which site?", _SETUP, code=Exit.USAGE)
    section = f"site {wanted}"
    known = dict(parser[section]) if parser.has_section(section) else {}
    if not known and "://" not in wanted:
        raise CliError(f"There is no site {wanted!r} in {config_path()}.", _SETUP, code=Exit.USAGE)
    host, port = split_url(known.get("url", wanted))
    # The token of the environment belongs to the site of the environment: no other is shown it.
    from_environment = not known or wanted == os.environ.get("PRISM_SITE")
    token = (os.environ.get("PRISM_TOKEN") if from_environment else None) or known.get("token", "")
    if not token:
        raise CliError(f"There is no token for {wanted}.", _SETUP, code=Exit.NOT_ALLOWED)
    authority = ca or os.environ.get("PRISM_CA") or known.get("ca")
    return Target(host, port, token, Path(authority) if authority else None)


def split_url(url: str) -> tuple[str, int]:
    """Host and port of an https address; anything else is refused, for it would show the token to all on the way."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    if parts.scheme != "https" or not host or parts.path not in ("", "/") or parts.username or parts.query:
        raise CliError(f"{url!r} is not an address of a site.", "It looks like https://10.1.2.3:9440.", code=Exit.USAGE)
    return host, port
