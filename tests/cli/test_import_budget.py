"""What the command line loads: little for its help, and the server's code only where a command is of the server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import nouns_and_leaves, surroundings
from tests.cli.tiny_server import answering, told

BUDGET = 60
HEAVY = {
    "aiohttp",
    "alembic",
    "asyncio",
    "asyncpg",
    "cryptography",
    "httpx",
    "litestar",
    "msgspec",
    "nacl",
    "numpy",
    "onnxruntime",
    "prometheus_client",
    "psutil",
    "pydantic",
    "rich",
    "sqlalchemy",
    "structlog",
    "uvicorn",
    "uvloop",
}
EMPTY = """
import typer
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
@app.callback()
def root() -> None: ...
app(["--help"], standalone_mode=False)
"""
SMALL = """
import typer
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
@app.command()
def one(name: str = "", count: int = typer.Option(1, min=1)) -> None: ...
app(["--name", "x"], standalone_mode=False)
"""
RUN = "from aitbc_cli.main import run\nfor words in {lines!r}:\n    code = run(words)\n    assert code == {code}, (words, code)\n"
ENDING = "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
PAGE = {"data": [], "has_more": False, "next_cursor": None}


def loaded(home: Path, program: str) -> set[str]:
    """The modules that a program has loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", program + ENDING],
        env=surroundings(home, AITBC_API_KEY="aitbc_live_of_a_test"),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def running(*lines: list[str], code: int = 0) -> str:
    """A program that runs some command lines."""
    return RUN.format(lines=list(lines), code=code)


@pytest.fixture(scope="module")
def typers_own(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What Typer loads by itself for any command that does nothing."""
    return loaded(tmp_path_factory.mktemp("small"), SMALL)


def heavy(modules: set[str]) -> set[str]:
    """Those that no quick answer needs."""
    return {name for name in modules if name.partition(".")[0] in HEAVY | {"aitbc"}}


def test_the_first_help_loads_little_more_than_an_empty_program(home: Path) -> None:
    more = loaded(home, running(["--help"])) - loaded(home, EMPTY)
    assert len(more) <= BUDGET, sorted(more)
    assert heavy(more) == set()
    assert not any(name.startswith("aitbc_cli.commands") for name in more)


@pytest.mark.parametrize(
    "words", [["--version"], ["job", "--help"], ["job", "submit", "embed", "--help"]], ids=" ".join
)
def test_a_noun_loads_itself_and_not_its_neighbours(words: list[str], home: Path, typers_own: set[str]) -> None:
    modules = loaded(home, running(words))
    nouns = {name for name in modules if name.startswith("aitbc_cli.commands.")}
    assert nouns <= {"aitbc_cli.commands.job", "aitbc_cli.commands.job_submit"}
    assert heavy(modules - typers_own) == set()


def test_no_help_of_any_command_loads_the_server(home: Path, typers_own: set[str]) -> None:
    _, leaves = nouns_and_leaves()
    modules = loaded(home, running(*([*leaf.words, "--help"] for leaf in leaves)))
    assert heavy(modules - typers_own) == set()


SERVER_FILE = {
    *("aitbc", "aitbc.kernel", "aitbc.kernel.primitives"),
    *("aitbc.kernel.primitives.server_file", "aitbc.kernel.primitives.settings_files"),
}
"""How the server on this machine is found: of the standard library alone."""


def test_asking_a_server_loads_no_server(home: Path, typers_own: set[str]) -> None:
    with answering(told(PAGE)) as server:
        modules = loaded(home, running(["job", "list", "--json", "--url", server.url]))
    assert heavy(modules - typers_own) <= SERVER_FILE


@pytest.mark.parametrize("noun", ["receipt", "chain"])
def test_an_offline_check_loads_neither_server_nor_database(noun: str, home: Path, typers_own: set[str]) -> None:
    (home / "file").write_text("{}\n")
    modules = loaded(home, running([noun, "verify", "file"], code=1))
    assert not (modules - typers_own) & (HEAVY - {"nacl"})
    assert not any(
        name.startswith(("aitbc.modules", "aitbc.app", "aitbc.kernel.database.unit_of_work")) for name in modules
    )
