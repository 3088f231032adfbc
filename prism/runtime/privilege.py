# SPDX-License-Identifier: Apache-2.0
"""Which user a server runs as, and the `setpriv` prefix that makes it so.

Postgres refuses to run as root. As root we give it an unprivileged user and its own data folder, and nothing above that
folder is changed. When a folder on the way is closed to that user (a clone below /root), the server gets the one
capability that lets it pass; where the machine withholds it, `PrivilegeError` names the folder and the way out.
"""

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

_UNPRIVILEGED_NAMES = ("postgres", "nobody")
#: In order of preference; a container usually withholds the first and grants the second.
_TRAVERSE_CAPABILITIES = ("dac_read_search", "dac_override")


class PrivilegeError(Exception):
    """The server cannot be run as another user here; the message says what to do."""


@dataclass(frozen=True)
class RunAs:
    """The user of a server process; `switch` is False when it is simply ours. `capability` is None when not needed."""

    uid: int
    gid: int
    switch: bool
    capability: str | None = None

    def prefix(self, *, death_signal: str) -> list[str]:
        """Command prefix: change user if needed, and get `death_signal` when the process that started it dies."""
        command = [_setpriv()]
        if self.switch:
            command += [f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
            if self.capability:
                command += [f"--inh-caps=+{self.capability}", f"--ambient-caps=+{self.capability}"]
                # access(2), by which initdb looks at its own binaries, drops the capabilities of a user other than
                # root unless this bit is set. What is kept over the exec is the ambient set alone, as before.
                command += ["--securebits=+no_setuid_fixup"]
        return [*command, f"--pdeathsig={death_signal}", "--"]


def _setpriv() -> str:
    found = shutil.which("setpriv", path=os.environ.get("PATH", "") + ":/usr/bin:/bin")
    if not found:
        raise PrivilegeError("`setpriv` was not found: install the package util-linux.")
    return found


def ourselves() -> RunAs:
    """Run as whoever we are."""
    return RunAs(uid=os.geteuid(), gid=os.getegid(), switch=False)


def for_data_folder(folder: Path, *, also_reads: tuple[Path, ...] = ()) -> RunAs:
    """Choose the user of a server that keeps `folder` and reads the folders `also_reads`.

    As an ordinary user: ourselves. As root: the folder's owner if it has an unprivileged one (so that a restart keeps
    the user), else a system user without rights of its own.
    """
    owner = folder.stat() if folder.exists() else None
    if os.geteuid() != 0:
        if owner and owner.st_uid != os.geteuid():
            raise PrivilegeError(
                f"{folder} belongs to user {_name(owner.st_uid)}, but you are {_name(os.geteuid())}. "
                f"Start as the user who started it first (root, if it was made as root)."
            )
        return ourselves()
    if owner and owner.st_uid != 0:
        return _with_capability(RunAs(uid=owner.st_uid, gid=owner.st_gid, switch=True), (folder, *also_reads))
    for name in _UNPRIVILEGED_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return _with_capability(RunAs(uid=entry.pw_uid, gid=entry.pw_gid, switch=True), (folder, *also_reads))
    raise PrivilegeError("Neither user `postgres` nor `nobody` exists: create one (`adduser --system postgres`).")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _with_capability(run_as: RunAs, folders: tuple[Path, ...]) -> RunAs:
    closed = [parent for folder in folders for parent in folder.resolve().parents if not _may_pass(parent, run_as)]
    if not closed:
        return run_as
    for capability in _TRAVERSE_CAPABILITIES:
        candidate = RunAs(run_as.uid, run_as.gid, switch=True, capability=capability)
        probe = [*candidate.prefix(death_signal="keep"), "/bin/ls", "-d", f"{folders[0].resolve().parent}/."]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return candidate
    raise PrivilegeError(
        f"Postgres does not run as root; it would run as {_name(run_as.uid)}, who cannot pass {closed[0]}. "
        f"Either `chmod o+x {closed[0]}`, or keep the clone elsewhere (for example below /srv), "
        f"or start as an ordinary user."
    )


def _may_pass(folder: Path, run_as: RunAs) -> bool:
    info = folder.stat()
    if info.st_uid == run_as.uid:
        return bool(info.st_mode & stat.S_IXUSR)
    if info.st_gid == run_as.gid:
        return bool(info.st_mode & stat.S_IXGRP)
    return bool(info.st_mode & stat.S_IXOTH)
