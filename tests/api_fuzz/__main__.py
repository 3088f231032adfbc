# SPDX-License-Identifier: Apache-2.0
"""`make api-fuzz SEED=n EXAMPLES=n`: schemathesis against a real site, by the site's own OpenAPI document."""

from __future__ import annotations

import argparse
import json
import re
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.loopback import loopback
from tests.support.sites import Site, end

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)
FAILURES = r"found ([\d,]+) unique failure"
PHASES = "examples,coverage,fuzzing"
#: Numbers that no generated address has by chance: nothing takes the fuzzer's own account and token away.
OWN_ID = 987_654_321
OWN_TOKEN = f"""
from django.contrib.auth.models import User
from prism.core.actor import Actor
from prism.core.models import ApiToken
from prism.core.services import tokens
user = User.objects.create(pk={OWN_ID}, username="api-fuzz", is_superuser=True, is_staff=True)
token, text = tokens.create(user=user, name="api-fuzz", actor=Actor.cli("api-fuzz"))
ApiToken.objects.filter(pk=token.pk).update(id={OWN_ID})
print("TOKEN=" + text)
"""
#: Headers that turn nearly every generated order away before it is looked at; tests/api has their own tests.
GATES = {"Idempotency-Key", "If-Match"}
_IDS_MAX = 6


def filled(site: Site) -> str:
    """Give the site objects to order about; returns a token."""
    site.manage("demo_content")
    entities = [row["uuid"] for row in site.api.rows("vms/")]
    for number, entity in enumerate(entities[:2]):
        name = f"domain{number}"
        site.api.post("protection-domains/", {"name": name}, expect=201)
        site.api.post(site.path(name, "protect"), {"entities": [entity]})
        schedule = {"type": "HOURLY", "every_nth": 1, "local_keep": 2}
        site.api.post(site.path(name, "schedules"), schedule, expect=201)
        site.take_snapshot(name)
    found = re.search(r"TOKEN=(\S+)", site.manage("shell", "-c", OWN_TOKEN))
    assert found, "the token was not made"
    return found[1]


def described(site: Site) -> dict[str, Any]:
    """The site's document, in which ids of real objects are to be chosen beside any others."""
    _, document = site.api.call("GET", "schema/?format=json", headers={"Accept": "application/vnd.oai.openapi+json"})
    for path, operations in document["paths"].items():
        if _is_download(operations.get("get", {})):
            del operations["get"]
        known = _ids(site, path, document)
        for operation in operations.values():
            wanted = [row for row in operation.get("parameters", []) if row["name"] not in GATES]
            operation["parameters"] = wanted
            for parameter in wanted if known else ():
                if parameter["in"] == "path" and parameter["name"] in {"uuid", "id", "name"}:
                    parameter["schema"] = {"anyOf": [{"enum": known}, parameter["schema"]]}
    return dict(document)


def _is_download(operation: dict[str, Any]) -> bool:
    """A whole disk: schemathesis would hold gigabytes in memory. Workflow tests read these."""
    return "application/octet-stream" in operation.get("responses", {}).get("200", {}).get("content", {})


def _ids(site: Site, path: str, document: dict[str, Any]) -> list[Any]:
    kind, brace, rest = path.removeprefix("/api/v1/").partition("/{")
    if not brace or "get" not in document["paths"].get(f"/api/v1/{kind}/", {}):
        return []
    answer = site.api.get(f"{kind}/")
    rows = answer["results"] if isinstance(answer, dict) else answer
    name = rest.partition("}")[0]
    return [row[name] for row in rows if name in row and row[name] != OWN_ID][:_IDS_MAX]


def attack(
    site: Site, tool: Path, folder: Path, *, seed: int, examples: int, mode: str, phases: str
) -> tuple[list[str], str]:
    """One run of schemathesis: what is wrong beside the failures that it counts, and what it said."""
    token, schema = filled(site), folder / "schema.json"
    schema.write_text(json.dumps(described(site)))
    command = [str(tool), "run", str(schema), "--url", f"https://{site.address}:9440", "--checks", CHECKS]
    command += ["--header", f"Authorization: Bearer {token}", "--tls-verify", str(site.layout.identity / "web.crt")]
    command += ["--phases", phases, "--mode", mode, "--max-examples", str(examples)]
    command += ["--seed", str(seed), "--request-timeout", "60", "--continue-on-failure", "--no-color"]
    command += ["--generation-database", "none", "--warnings", "off", "--suppress-health-check", "all"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    status, _ = site.api.call("GET", "site/", headers={"Authorization": f"Bearer {token}"})
    wrong = [] if status == 200 else [f"the token of the run was refused at its end ({status})"]
    if done.returncode and not count(FAILURES, done.stdout):
        wrong.append(f"schemathesis ended with {done.returncode}")
    return wrong, done.stdout + done.stderr


def count(pattern: str, text: str) -> int:
    """The number that the last match of `pattern` names; 0 without one."""
    found = re.findall(pattern, text)
    return int(found[-1].replace(",", "")) if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--examples", type=int, default=50, help="requests per operation and phase")
    parser.add_argument("--mode", choices=["all", "positive", "negative"], default="all")
    parser.add_argument("--phases", default=PHASES, help="those of schemathesis, comma-separated")
    parser.add_argument("--tool", type=Path, required=True, help="the program schemathesis")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="apifuzz-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        site = Site(folder / "s", "north", loopback(1))
        try:
            site.up()
            wrong, said = attack(
                site,
                options.tool.absolute(),
                folder,
                seed=seed,
                examples=options.examples,
                mode=options.mode,
                phases=options.phases,
            )
        finally:
            end(site)
    print(said, flush=True)
    tries = count(r"([\d,]+) generated", said)
    failures = count(FAILURES, said)
    wrong += [] if tries else ["nothing was tried"]
    for line in wrong:
        print(f"VIOLATION {line}")
    print(f"api-fuzz: seed {seed}: {tries} requests, {failures + len(wrong)} kinds of failure")
    return 1 if failures or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
