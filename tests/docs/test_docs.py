# SPDX-License-Identifier: Apache-2.0
"""The documentation is true: links lead somewhere, and what is named exists."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands

from tests.docs import states_page

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
METHODS = {"get", "post", "put", "patch", "delete"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Without fenced blocks: what is in them is no Markdown."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as the usual viewers make them."""
    found = re.findall(r"^#+ +(.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def broken_links(name: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(read(name))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / name).parent / path if path else ROOT / name
        if not found.exists() or (anchor and anchor not in anchors(found.read_text(encoding="utf-8"))):
            yield target


@pytest.mark.parametrize("name", NAMES)
def test_its_links_lead_somewhere(name: str) -> None:
    assert list(broken_links(name)) == []


def test_its_index_names_every_page() -> None:
    index = set(re.findall(r"\]\(([^)#\s]+)\)", read("docs/README.md")))
    pages = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")} - {"README.md"}
    assert pages - index == set()


@pytest.mark.parametrize("name", NAMES)
def test_its_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), re.MULTILINE))
    text = read(name)
    named = re.findall(r"`make ([a-z][a-z-]*)", text) + re.findall(r"^\s*make ([a-z][a-z-]*)", text, re.MULTILINE)
    assert set(named) - targets == set()


@pytest.mark.parametrize("name", NAMES)
def test_its_commands_exist(name: str) -> None:
    named = set(re.findall(r"manage\.py ([a-z][a-z_]*)", read(name)))
    assert named - set(get_commands()) == set()


@pytest.mark.parametrize("name", NAMES)
def test_the_tests_it_names_exist(name: str) -> None:
    for path, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", read(name)):
        tree = ast.parse(read(path))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert test in names, f"{path} has no {test}"


@pytest.mark.parametrize("name", NAMES)
def test_the_files_it_names_exist(name: str) -> None:
    folders = r"(?:stargate|prism|replication|dataprotection|docs|tests|bench|docker)"
    named = re.findall(rf"`({folders}/[\w./-]+\.(?:py|md|svg))`", read(name))
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    from drf_spectacular.generators import SchemaGenerator

    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return found


def calls_of_guide() -> set[tuple[str, str]]:
    """(method, address below /api/v1) of each call in the guide; a shell variable in an address is a parameter."""
    text = read("docs/guide.md").replace("\\\n", " ")
    found = set()
    # A call is on one line, but for a body that goes on in the next ones.
    for line in re.findall(r"\b(?:one|two) [^\n]*", text):
        address = re.search(r"\$S[12](/[^\s\"'|?]*)", line)
        if address is None:
            continue
        method = re.search(r"-X ([A-Z]+)", line)
        sends = " -d " in line or "--data-binary" in line
        found.add((method[1].lower() if method else "post" if sends else "get", address[1]))
    return found


def test_the_guide_calls_addresses_that_exist(schema: dict[str, Any]) -> None:
    known = {
        (method, re.sub(r"\{\w+\}", "{}", path.removeprefix("/api/v1")))
        for path, methods in schema["paths"].items()
        for method in methods
        if method in METHODS
    }
    calls = {(method, re.sub(r"\$\w+", "{}", path)) for method, path in calls_of_guide()}
    assert len(calls) > 20
    assert calls - known == set()


def test_the_guide_shows_every_verb_of_a_domain(schema: dict[str, Any]) -> None:
    verbs = {"protect", "schedules", "take-snapshot", "migrate", "activate", "deactivate"}
    assert {path.split("/")[3] for _, path in calls_of_guide() if path.count("/") == 4} >= verbs


def test_the_state_diagrams_are_those_of_the_code() -> None:
    if os.environ.get("PRISM_WRITE_DOCS") == "1":
        states_page.PAGE.write_text(states_page.render(), encoding="utf-8")
    assert states_page.PAGE.read_text(encoding="utf-8") == states_page.render()


def test_the_picture_has_a_text_and_two_themes() -> None:
    picture = read("docs/img/architecture.svg")
    assert "<title" in picture
    assert "<desc" in picture
    assert "prefers-color-scheme: dark" in picture
