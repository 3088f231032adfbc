# SPDX-License-Identifier: Apache-2.0
"""Cases on real files: LMDB's index and the site's identity, which the simulated disk does not have.

LMDB trusts its pages and may end the process that reads a damaged one, so everything that opens it runs beside us.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from stargate.errors import DamagedData
from stargate.extents.index import Change, LmdbIndex, MemoryIndex
from stargate.extents.store import ExtentStore
from stargate.fs.disk import OsDisk
from stargate.peer.identity import CERTIFICATE_FILE, KEY_FILE, create_identity
from tests.corrupt.base import Image
from tests.corrupt.damage import KINDS, spoil
from tests.corrupt.live import needed_extents

LOOK_UP = """
import sys
from pathlib import Path
from stargate.extents.index import LmdbIndex
index = LmdbIndex(Path(sys.argv[1]), read_only=True)
names = [bytes.fromhex(name) for name in sys.stdin.read().split()]
found = [at and at[:7] for at in index.get_many(names)]
sys.exit(repr(found) != Path(sys.argv[2]).read_text())
"""


class FileCase:
    """One image as a folder, one file of it damaged."""

    def __init__(self, image: Image, rng: Random) -> None:
        self.image = image
        self.rng = rng
        self.story = ""
        self.live = False

    def play(self) -> str:
        """The rule that was broken, empty when none was."""
        with tempfile.TemporaryDirectory(prefix="corrupt-") as name:
            data = Path(name)
            roots, needed = self._lay_out(data)
            damaged = self._damage(data, needed)
            problem = self._check(data, "check")
            if self.live and not problem:
                return "it was not found"
            if not problem or damaged.parent.name == "identity":
                return ""
            self._check(data, "repair")
            return self._read(data, roots, needed)

    def _lay_out(self, data: Path) -> tuple[list[bytes], list[bytes]]:
        """(roots, needed names) of the site whose folder `data` becomes."""
        member = self.image.load(self.rng)
        member.start_store()
        roots, needed = member.store.hub.state.roots(), sorted(needed_extents(member))
        member.stop()
        disk = OsDisk(data / "stargate")
        for path, raw in member.site.disk.snapshot().items():
            disk.mkdir(path.rpartition("/")[0])
            file = disk.open(path, create=True)
            file.pwritev([raw], 0)
            file.close()
        _fill(data / "stargate" / "index", member.site.index)
        create_identity(data / "identity", "site")
        return roots, needed

    def _damage(self, data: Path, needed: list[bytes]) -> Path:
        folder = data / "stargate" / "index"
        path = self.rng.choice(
            [folder / "data.mdb", data / "identity" / CERTIFICATE_FILE, data / "identity" / KEY_FILE]
        )
        good = Path(data / "places")
        index = LmdbIndex(folder, read_only=True)
        good.write_text(repr([at and at[:7] for at in index.get_many(needed)]))
        index.close()
        before = path.read_bytes()
        kind = self.rng.choice(KINDS)
        after, what = spoil(bytearray(before), kind, self.rng.randrange(len(before)), self.rng)
        path.write_bytes(after)
        self.story = f"{kind} of {path.name}, {what} on a real disk"
        if path.name == "data.mdb":
            names = "\n".join(name.hex() for name in needed)
            command = [sys.executable, "-c", LOOK_UP, str(folder), str(good)]
            self.live = (
                subprocess.run(command, input=names, text=True, capture_output=True, check=False).returncode != 0
            )
        else:
            self.live = _meaning(path.name, before) != _meaning(path.name, bytes(after))
        return path

    @staticmethod
    def _check(data: Path, order: str) -> bool:
        command = [sys.executable, "-m", "stargate", order, "--data", str(data)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 1

    @staticmethod
    def _read(data: Path, roots: list[bytes], needed: list[bytes]) -> str:
        """Everything is whole again in a store that starts on what the repair left."""
        disk = OsDisk(data / "stargate")
        store = ExtentStore(disk, LmdbIndex(data / "stargate" / "index"), writable=True, roots=roots)
        try:
            for name in needed:
                store.verify(name)
        except DamagedData as exc:
            return f"it was not healed: {exc.message}"
        finally:
            store.close()
        return ""


def _fill(folder: Path, memory: MemoryIndex) -> None:
    index = LmdbIndex(folder)
    meta = [(name, value) for name in ("store_id", "epoch", "returned_bytes") if (value := memory.meta(name))]
    index.commit(Change(puts=list(memory.items()), freed=memory.freed(), meta=meta))
    index.close()


def _meaning(name: str, raw: bytes) -> object:
    """What a certificate or key says, whatever stands around it; None: nothing."""
    try:
        if name == CERTIFICATE_FILE:
            raw.decode("ascii")
            return x509.load_pem_x509_certificate(raw).public_bytes(serialization.Encoding.DER)
        key = serialization.load_pem_private_key(raw, None)
        return key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
