# SPDX-License-Identifier: Apache-2.0
"""What must be true before anything is started. Every refusal says what is wrong and what to do next."""

import contextlib
import errno
import ipaddress
import os
import pwd
import shutil
import socket
import tempfile
from pathlib import Path

from prism.layout import SOCKET_PATH_LIMIT_BYTES

MIN_FREE_BYTES = 2 * 1024**3
_LONGEST_ENGINE_SOCKET = "stargate.sock"


class PreflightError(Exception):
    """`make up` cannot start here; nothing was started. The message ends with the next step."""


def check_address(listen: str) -> None:
    """`listen` must be an address, not a name: it goes into the certificate and to the peers."""
    try:
        ipaddress.ip_address(listen)
    except ValueError as error:
        raise PreflightError(
            f"LISTEN={listen} is not an IP address. Give one of this machine's (`ip -br addr`)."
        ) from error


def check_folder(root: Path) -> None:
    """The data root exists or can be made, and we may write there."""
    try:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise PreflightError(
            f"The data folder {root} cannot be written ({error.strerror}). "
            f"Give it to this user (`chown`), or choose another with DATA=/path/to/folder."
        ) from error


def check_owner(data: Path) -> None:
    """A site is always started by the user who made it: files of two users in one folder lock out both."""
    if not data.exists() or data.stat().st_uid == os.geteuid():
        return
    owner = data.stat().st_uid
    name = next((entry.pw_name for entry in pwd.getpwall() if entry.pw_uid == owner), str(owner))
    raise PreflightError(
        f"{data} was made by user {name}. Start as that user, "
        f"or keep sites of your own elsewhere: DATA=/path/to/folder."
    )


def check_space(root: Path, *, min_free_bytes: int = MIN_FREE_BYTES) -> None:
    free = shutil.disk_usage(root).free
    if free < min_free_bytes:
        raise PreflightError(
            f"Only {free / 1024**3:.1f} GiB are free at {root}; {min_free_bytes / 1024**3:.0f} GiB are needed. "
            f"Free some space there, or choose another disk with DATA=/path/to/folder."
        )


def check_socket_paths(run: Path) -> None:
    """The engine's sockets lie in the run folder of the site itself; the kernel bounds the length of their names."""
    longest = run / _LONGEST_ENGINE_SOCKET
    if len(os.fsencode(longest)) > SOCKET_PATH_LIMIT_BYTES:
        raise PreflightError(
            f"The path of the data folder is too long for a socket in it ({longest}: more than "
            f"{SOCKET_PATH_LIMIT_BYTES} bytes). Choose a shorter one with DATA=/path/to/folder."
        )


def check_ports(listen: str, ports: dict[str, int]) -> None:
    """Each port can be had on `listen` right now."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    for use, port in ports.items():
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((listen, port))
                probe.listen(1)
            except OSError as error:
                raise PreflightError(_port_message(listen, port, use, error)) from error


def _port_message(listen: str, port: int, use: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        who = port_holder(port)
        return (
            f"Port {port} ({use}) on {listen} is already in use{f' by {who}' if who else ''}. "
            f"Stop that program (`ss -ltnp 'sport = :{port}'` shows it), then start again."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{listen} is not an address of this machine. `ip -br addr` lists those it has; give one with LISTEN=."
    return f"Port {port} ({use}) on {listen} cannot be opened: {error.strerror}."


def port_holder(port: int) -> str | None:
    """Name and pid of a process that listens on `port`; None when the kernel does not let us see it."""
    inodes = {
        fields[9]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in (line.split() for line in _lines(Path(table)))
        if len(fields) > 9 and fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port
    }
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        if any(f"socket:[{inode}]" in _open_files(process) for inode in inodes):
            name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
            return f"{name} (pid {process.name})"
    return None


def _open_files(process: Path) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                found.add(os.readlink(entry))
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return []
