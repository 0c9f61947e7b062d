"""Lays out a new module: rooms with a small working example, a migration, tests, and its place in the order.

The poison tests need nothing written: they read the operations from OpenAPI, and make what a path names by the POST
beside it.
"""

import keyword
import re
import subprocess
import sys
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z]{1,29}")
TAKEN = {"answers", "app", "kernel", "module", "modules", "note", "notes", "public", "self", "tests", "web"}
RESERVED_BY_LITESTAR = {"body", "cookies", "data", "headers", "query", "request", "scope", "socket", "state"}
PLACES = {
    "__init__.py": "src/aitbc/modules/{name}/__init__.py",
    "api.py": "src/aitbc/modules/{name}/api.py",
    "events.py": "src/aitbc/modules/{name}/events.py",
    "models.py": "src/aitbc/modules/{name}/models.py",
    "service_init.py": "src/aitbc/modules/{name}/service/__init__.py",
    "service_notes.py": "src/aitbc/modules/{name}/service/notes.py",
    "service_service.py": "src/aitbc/modules/{name}/service/service.py",
    "routes.py": "src/aitbc/modules/{name}/routes.py",
    "legacy_init.py": "src/aitbc/modules/{name}/legacy/__init__.py",
    "legacy_public.py": "src/aitbc/modules/{name}/legacy/public.py",
    "module.py": "src/aitbc/modules/{name}/module.py",
    "migration.py": "migrations/{name}/0001_create_the_first_tables.py",
    "make.py": "tests/modules/{name}/make.py",
    "test_service.py": "tests/modules/{name}/test_service.py",
    "test_model.py": "tests/modules/{name}/test_model.py",
    "test_routes.py": "tests/modules/{name}/test_routes.py",
}
PLACEMENT = "src/aitbc/server/config/placement.py"
AFTERWARDS = """\
{name} is laid out and mounted. What is left to you:
  - its place in the order (pyproject.toml, contract "order"; src/aitbc/app.py follows it): {callers}
  - who may do what: new keys of owners have "{name}:read" and "{name}:write"; the manifest's scopes say so, by kind of key
  - its legacy paths: src/aitbc/modules/{name}/legacy answers /health; add what else the service before it answered
  - the example: src/aitbc/modules/{name} keeps notes; make it keep what the module is for
docs/guides/a-new-module.md goes through all of it. Then: make check && make test T=tests/modules/{name}"""


class Refused(Exception):
    """The module cannot be laid out, and nothing was written."""


def lay(name: str, root: Path = ROOT) -> list[Path]:
    """Write the files of a new module and mount it; answers what was written. Raises `Refused`."""
    _require_free(name, root)
    order = _placed(name, (root / "pyproject.toml").read_text(encoding="utf-8"))
    app = _mounted(name, (root / "src/aitbc/app.py").read_text(encoding="utf-8"), _order_in(order))
    placement = _prefixed(name, (root / PLACEMENT).read_text(encoding="utf-8"))
    written = []
    for template, place in PLACES.items():
        path = root / place.format(name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = Template((TEMPLATES / f"{template}.txt").read_text(encoding="utf-8"))
        path.write_text(text.substitute(name=name, Name=name.capitalize()), encoding="utf-8")
        written.append(path)
    (root / "pyproject.toml").write_text(order, encoding="utf-8")
    (root / "src/aitbc/app.py").write_text(app, encoding="utf-8")
    (root / PLACEMENT).write_text(placement, encoding="utf-8")
    return written


def _require_free(name: str, root: Path) -> None:
    taken = TAKEN | RESERVED_BY_LITESTAR | set(sys.stdlib_module_names)
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or name in taken:
        raise Refused(f"{name!r} is no name for a module: one lower-case word that means nothing else here.")
    if any((root / place.format(name=name)).parent.exists() for place in PLACES.values()):
        raise Refused(f"There is a module {name} already.")


def _layers(order: str) -> re.Match[str]:
    found = re.search(r'(?s)id = "order".*?\nlayers = \[\n(?P<layers>.*?)\n\]', order)
    if found is None:
        raise Refused('pyproject.toml has no contract "order" with a list of layers, one a line.')
    return found


def _order_in(text: str) -> list[str]:
    """The names in the contract, top first, whether or not they exist yet."""
    return re.findall(r'"\(?([a-z]+)\)?"', _layers(text)["layers"])


def _placed(name: str, text: str) -> str:
    """pyproject.toml with the module in the order: where it was foreseen, or on top, where nobody calls it."""
    found = _layers(text)
    layers = found["layers"]
    if f'"({name})"' in layers:
        layers = layers.replace(f'"({name})"', f'"{name}"')
    elif f'"{name}"' not in layers:
        layers = f'    "{name}",\n{layers}'
    return text[: found.start("layers")] + layers + text[found.end("layers") :]


def _mounted(name: str, app: str, order: list[str]) -> str:
    """app.py with the module imported and in the list."""
    listed = re.search(r"MODULES: tuple\[Module, \.\.\.\] = \(([^)]*)\)", app)
    imports = list(re.finditer(r"^from aitbc\.modules\.\w+\.module import module as \w+\n", app, re.MULTILINE))
    if listed is None or not imports:
        raise Refused("src/aitbc/app.py has no list MODULES of imported modules.")
    names = [word.strip() for word in listed[1].split(",") if word.strip()]
    names = sorted([*names, name], key=order.index)
    lines = sorted([*(line[0] for line in imports), f"from aitbc.modules.{name}.module import module as {name}\n"])
    head, tail = app[: imports[0].start()], app[imports[-1].end() : listed.start(1)]
    return head + "".join(lines) + tail + ", ".join(names) + app[listed.end(1) :]


def _prefixed(name: str, text: str) -> str:
    """placement.py with a first segment for the module's legacy paths on the gateway, unless one was foreseen."""
    found = re.search(r"(?s)LEGACY_PREFIXES: [^\n]*\n(?P<prefixes>.*?)\n\}", text)
    if found is None:
        raise Refused(f"{PLACEMENT} has no table of legacy prefixes.")
    if f'"{name}"' in found["prefixes"]:
        return text
    end = found.end("prefixes")
    return f'{text[:end]}\n    "{name}": "{name}",{text[end:]}'


def tidy(written: list[Path], root: Path = ROOT) -> None:
    """Format what was written and bring the documents up to date, in processes of their own, which know the module."""
    ruff = Path(sys.executable).with_name("ruff")
    files = [*written, root / "src/aitbc/app.py", root / PLACEMENT]
    subprocess.run([ruff, "check", "--quiet", "--fix", "--select", "I", *files], cwd=root, check=True)
    subprocess.run([ruff, "format", "--quiet", *files], cwd=root, check=True)
    for document in ("tools.documents", "tools.api"):
        subprocess.run([sys.executable, "-m", document, "write"], cwd=root, check=True)


def main(arguments: list[str]) -> int:
    """The name of the new module."""
    if len(arguments) != 1:
        print("usage: make module N=name", file=sys.stderr)
        return 2
    try:
        written = lay(arguments[0])
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 2
    for path in written:
        print(f"wrote {path.relative_to(ROOT)}")
    tidy(written)
    order = _order_in((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    above = order[: order.index(arguments[0])]
    callers = f"now {', '.join(above)} may call it" if above else "now it is on top, and nobody may call it"
    print(AFTERWARDS.format(name=arguments[0], callers=callers))
    return 0
