"""The committed OpenAPI document: `write` brings docs/openapi.json up to date, `check` says whether it is.

Neither accepts a breaking change without a note in docs/api-changes.md.
"""

import functools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from litestar import Litestar

from aitbc.app import MODULES
from aitbc.kernel.primitives.version import this_build
from aitbc.kernel.telemetry.metrics import Metrics
from aitbc.server.asgi.openapi import document
from aitbc.server.asgi.pages import Pages
from aitbc.server.config.placement import MAIN
from aitbc.server.runtime.application import DESCRIPTION, TITLE, litestar
from tools.api_changes import breaking_changes

ROOT = Path(__file__).resolve().parents[1]
COMMITTED, NOTES = "docs/openapi.json", "docs/api-changes.md"


def described() -> dict[str, Any]:
    """The OpenAPI document of the whole application, with no service behind its routes; the caller's own to change."""
    return cast(dict[str, Any], json.loads(_described()))


@functools.cache
def _described() -> str:
    app = application()
    told = document(app, title=TITLE, version=this_build().api, description=DESCRIPTION)
    return json.dumps(told)


def application(pages: Pages | None = None) -> Litestar:
    """The whole application with no service behind its routes."""
    nobody = SimpleNamespace(
        wired=SimpleNamespace(services={}, modules=MODULES, offered=lambda m: dict.fromkeys((m.name, *m.parts))),
        modules=MODULES,
        placement=SimpleNamespace(process=MAIN),
        identity=None,
        operations=None,
        denials=None,
        sessions=None,
        webhooks=SimpleNamespace(measure=None, endpoints=None, log=None),
        directory=None,
        database_inspection=None,
        log_levels=None,
        databases=(),
        settings=SimpleNamespace(
            state_dir=Path(), server=SimpleNamespace(security_contact=None), traces=SimpleNamespace(endpoint=None)
        ),
        installed=SimpleNamespace(metrics=None, looks=SimpleNamespace(checks={})),
        platform=SimpleNamespace(draining=None, bus=None, hooks=SimpleNamespace(measure=None)),
        peers={},
        parts=(),
    )
    return litestar(cast(Any, nobody), this_build(), Metrics(this_build()), pages)


def written(told: dict[str, Any]) -> str:
    """The document as a file, without the examples of problems, which are half of it; docs/errors.md has them all."""
    whole = json.loads(json.dumps(told))
    for methods in whole["paths"].values():
        for operation in methods.values():
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    content.pop("examples", None)
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def committed(root: Path) -> list[dict[str, Any]]:
    """The documents that clients may rely on: of the working tree, and of the last commit where there is one."""
    shown = subprocess.run(["git", "show", f"HEAD:{COMMITTED}"], cwd=root, capture_output=True, check=False)
    texts = [(root / COMMITTED).read_bytes()] if (root / COMMITTED).exists() else []
    texts += [shown.stdout] if shown.returncode == 0 else []
    return [json.loads(text) for text in texts]


def without_note(changes: Sequence[str], notes: str) -> list[str]:
    """The changes that the notes do not name."""
    return [change for change in changes if f"`{change}`" not in notes]


def main(arguments: list[str], root: Path = ROOT) -> int:
    """`write` or `check`."""
    if arguments not in (["write"], ["check"]):
        print("usage: python -m tools.api write | check", file=sys.stderr)
        return 2
    now, notes = described(), (root / NOTES).read_text(encoding="utf-8")
    changes = {change: None for before in committed(root) for change in breaking_changes(before, now)}
    if missing := without_note(list(changes), notes):
        print(f"These changes break clients of the API. Undo them, or say why in {NOTES}:", file=sys.stderr)
        print(*(f"* `{change}`" for change in missing), sep="\n", file=sys.stderr)
        return 1
    path, text = root / COMMITTED, written(now)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return 0
    if arguments == ["check"]:
        print(f"{COMMITTED} is not what the code says; run: make map", file=sys.stderr)
        return 1
    path.write_text(text, encoding="utf-8")
    print(f"wrote {COMMITTED}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
