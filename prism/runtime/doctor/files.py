# SPDX-License-Identifier: Apache-2.0
"""Checks that need no running process: folders, permissions, space, certificates, ports, packages."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from prism.runtime.certificates import belongs
from prism.runtime.children import ROOT
from prism.runtime.doctor import Check, Finding, Patient, error, fine, warning
from prism.runtime.preflight import PreflightError, check_address, check_owner, check_ports, check_socket_paths
from stargate.space import Level as Space
from stargate.space import level_of
from stargate.units import GiB

_SOON = datetime.timedelta(days=30)
_PRIVATE = ("identity", "stargate", "uploads", "logs", "run")


def folders(patient: Patient) -> Iterator[Finding]:
    """Owner, access of others, and whether we can write."""
    layout = patient.layout
    try:
        check_owner(layout.data)
    except PreflightError as problem:
        yield error("owner", str(problem), f"Or give the folder to this user: `chown -R` {layout.data}, while stopped.")
        return
    for folder in [layout.data, *(layout.data / name for name in _PRIVATE)]:
        if not folder.exists():
            continue
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO) and folder in (layout.data, layout.identity):
            yield error("permissions", f"Others may enter {folder} (mode {mode:o}).", f"chmod 700 {folder}")
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as problem:
            mend = "Is the file system mounted read-only or full? `dmesg | tail` says why."
            yield error("write access", f"{folder} cannot be written: {problem.strerror}.", mend)
    yield fine("folders", f"{layout.data} is looked through")


def keys(patient: Patient) -> Iterator[Finding]:
    """Private files are there, and private."""
    identity = patient.layout.identity
    for name in ("secret.key", "site.key", "site.crt", "web.key", "web.crt"):
        if not (identity / name).exists():
            mend = "`make up` makes it anew." if name.startswith("web.") else "Bring identity/ back from a back-up."
            yield error("identity", f"{identity / name} is missing.", mend)
    for path in sorted(identity.rglob("*.key")):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield error("permissions", f"Others may read {path} (mode {mode:o}).", f"chmod 600 {path}")


def certificates(patient: Patient) -> Iterator[Finding]:
    """They can be read, belong to their keys, and last."""
    for path in sorted(patient.layout.identity.rglob("*.crt")):
        label = str(path.relative_to(patient.layout.data))
        try:
            found = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as problem:
            yield error("certificate", f"{label} cannot be read: {problem}.", _renewal(path))
            continue
        left = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        until = found.not_valid_after_utc.date().isoformat()
        if left < datetime.timedelta(0):
            yield error("certificate", f"{label} expired on {until}.", _renewal(path))
        elif left < _SOON:
            yield warning("certificate", f"{label} expires on {until}, in {left.days} days.", _renewal(path))
        elif path.with_suffix(".key").exists() and not belongs(found, path.with_suffix(".key").read_bytes()):
            yield error("certificate", f"{label} does not belong to its key.", _renewal(path))
        else:
            yield fine("certificate", f"{label} is valid until {until}")


def _renewal(path: Path) -> str:
    if path.name == "web.crt":
        return (
            "`manage.py web_certificate` takes a new one; without web.crt the next start makes one of the site's own."
        )
    if path.name == "site.crt":
        return "The other sites know this site by it: bring it back from a back-up, or pair anew."
    return "Issue a new one: docs/nbd.md."


def space(patient: Patient) -> Iterator[Finding]:
    """The engine's own thresholds."""
    usage = shutil.disk_usage(patient.layout.data)
    level, text = (
        level_of(usage.free, usage.total),
        f"{usage.free / GiB:.1f} GiB of {usage.total / GiB:.1f} GiB are free",
    )
    inodes = os.statvfs(patient.layout.data)
    if inodes.f_files and inodes.f_favail < inodes.f_files // 100:
        yield error("inodes", f"Only {inodes.f_favail} files can still be made.", "Delete files there, or add space.")
    if level is Space.GOOD:
        yield fine("space", text)
    elif level is Space.NEARLY_FULL:
        yield warning("space", f"{text}.", "Delete snapshots or add space: docs/operations.md.")
    else:
        yield error("space", f"{text}: no new snapshots.", "Delete snapshots or add space: docs/operations.md.")


def ports(patient: Patient) -> Iterator[Finding]:
    """While stopped: could it start? While running, the processes' own answers tell."""
    config = patient.config
    try:
        check_address(config.listen)
        check_socket_paths(patient.layout.run)
        if not patient.running:
            check_ports(config.listen, config.ports)
    except PreflightError as problem:
        yield error("ports", str(problem), "")
    else:
        yield fine("ports", f"{config.listen}: {', '.join(f'{use} {port}' for use, port in config.ports.items())}")


def packages(patient: Patient) -> Iterator[Finding]:
    """The virtualenv holds what the lock names."""
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    differing = []
    for name, wanted in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock, re.MULTILINE):
        try:
            present = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            present = "missing"
        if present != wanted:
            differing.append(f"{name} {present} (locked: {wanted})")
    if differing:
        yield warning("packages", f"Not as locked: {', '.join(differing)}.", "`make venv` installs what is locked.")
    else:
        yield fine("packages", "as locked")


CHECKS: tuple[Check, ...] = (folders, keys, certificates, space, ports, packages)
