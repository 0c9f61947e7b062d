"""The guide for authors of plugins: its commands run in order, against a real server, and do what the text says."""

import json
import re
import shlex
import shutil
import time
import urllib.request
from pathlib import Path

from aitbc.kernel.hooks.rules.all_rules import RULES
from tests.architecture.source import ROOT
from tests.cli.installation import CliInstallation, Person
from tests.docs.console import fenced

PAGE = ROOT / "docs/guides/write-a-plugin.md"
HALF = "0.00000005"
OPERATOR = "# as the operator"


def test_every_rule_has_its_place_in_the_guide() -> None:
    headings = set(re.findall(r"^### ([a-z_]+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert headings == {*RULES, "scan"}


def test_the_commands_publish_install_and_revoke_the_example(tmp_path: Path) -> None:
    installation = CliInstallation(tmp_path, AITBC_HOOKS__POLL_SECONDS="0.2")
    installation.server.start()
    try:
        author, admin = installation.resident("author"), installation.admin
        shutil.copytree(ROOT / "examples", author.home / "examples")
        before = _price(author)
        for block in fenced(PAGE, "sh"):
            for line in block.strip().splitlines():
                who = admin if OPERATOR in line else author
                if " revoke " in line:
                    assert _price(author) in {before, HALF}, "half of it, by night"
                who.does(*shlex.split(line.partition("#")[0])[1:])
        assert author.gets("plugin", "show", "acme.night-price")["state"] == "revoked"
        until = time.monotonic() + 30
        while _price(author) != before and time.monotonic() < until:
            time.sleep(0.1)
        assert _price(author) == before
        (standing,) = [one for one in admin.gets("plugin", "installed") if one["plugin"] == "acme.night-price"]
        assert standing["state"] == "revoked"
        _what_is_wrong(author)
    finally:
        installation.server.stop()


def _what_is_wrong(author: Person) -> None:
    """A plugin that breaks a rule is told offline what the server would tell."""
    manifest = author.home / "examples/plugins/night-price/plugin.json"
    manifest.write_text(manifest.read_text().replace("price.1", "price.9"))
    (found,) = [
        one
        for one in author.gets("plugin", "validate", "examples/plugins/night-price", code=1)
        if one["rule"] == "manifest"
    ]
    assert found["severity"] == "reject" and found["help"] == "docs/guides/write-a-plugin.md#manifest"
    author.does("plugin", "publish", "examples/plugins/night-price", "--key", "no.key", code=78)


def _price(who: Person) -> str:
    """What a unit of embedding is quoted at."""
    url, key = who.environment["AITBC_URL"], Path(who.environment["AITBC_API_KEY_FILE"]).read_text().strip()
    body = json.dumps({"kind": "embed", "input": {"texts": ["x"]}, "max_price": "1"}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/api/v1/ai/quotes", body, headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(json.load(answer)["unit_price"])
