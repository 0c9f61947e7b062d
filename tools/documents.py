"""The documents that are written from the code: `write` brings them up to date, `check` says which are not."""

import sys
from pathlib import Path

import aitbc.web.site  # noqa: F401 - its errors are in the catalogue, and the app loads it only where it serves
from aitbc.app import MODULES
from aitbc.server.asgi.openapi_pages import error_catalogue
from tools.map import draw
from tools.settings import written

ROOT = Path(__file__).resolve().parents[1]


def documents() -> dict[Path, str]:
    """Each document with the text it should have."""
    docs = ROOT / "docs"
    return {
        docs / "map.md": draw(MODULES),
        docs / "errors.md": error_catalogue(),
        docs / "settings.md": written(MODULES),
    }


def main(arguments: list[str]) -> int:
    """`write` or `check`."""
    if arguments not in (["write"], ["check"]):
        print("usage: python -m tools.documents write | check", file=sys.stderr)
        return 2
    stale = [
        path for path, text in documents().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        name = path.relative_to(ROOT)
        if arguments == ["write"]:
            path.write_text(documents()[path], encoding="utf-8")
            print(f"wrote {name}")
        else:
            print(f"{name} is not what the code says; run: make map", file=sys.stderr)
    return 1 if stale and arguments == ["check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
