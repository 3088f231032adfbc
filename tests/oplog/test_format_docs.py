# SPDX-License-Identifier: Apache-2.0
"""The pages of docs/formats say what the code packs: each table is rendered from its struct and compared."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from stargate.catalog import format as catalog
from stargate.hot import format as hot
from stargate.oplog import format as oplog

PAGES = Path(__file__).parents[2] / "docs" / "formats"
LAYOUTS = {"oplog": oplog.LAYOUTS, "catalog": catalog.LAYOUTS, "hot": hot.LAYOUTS}
TYPES = {"B": "u8", "H": "u16", "I": "u32", "Q": "u64"}


def render(layout: struct.Struct, names: tuple[str, ...]) -> str:
    lines = ["| offset | size | type | field |", "| --- | --- | --- | --- |"]
    offset = 0
    parts = re.findall(r"\d+s|[BHIQ]", layout.format)
    for code, name in zip(parts, names, strict=True):
        size = struct.calcsize("<" + code)
        lines.append(f"| {offset} | {size} | {TYPES.get(code, 'bytes')} | {name} |")
        offset += size
    assert offset == layout.size
    return "\n".join(lines)


@pytest.mark.parametrize(("page", "name"), [(page, name) for page, layouts in LAYOUTS.items() for name in layouts])
def test_it_documents_each_structure_as_it_is_packed(page: str, name: str) -> None:
    text = (PAGES / f"{page}.md").read_text()
    assert f"<!-- layout: {name} -->\n{render(*LAYOUTS[page][name])}\n" in text
