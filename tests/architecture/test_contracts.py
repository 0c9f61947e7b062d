"""A check needs a check: each import contract is broken once on purpose and must be seen red."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.scale import scaled

BREAKS = [
    ("house", "src/aitbc/kernel/primitives/clock.py", "import aitbc.modules.trading.api"),
    ("house", "src/aitbc/helpers.py", ""),
    ("house", "src/aitbc/modules/trading/service", "import aitbc.server.config.settings"),
    ("kernel", "src/aitbc/kernel/database/retry.py", "import aitbc.kernel.http.problems"),
    ("kernel", "src/aitbc/kernel/helpers.py", ""),
    ("server", "src/aitbc/server/config/settings.py", "import aitbc.server.runtime.serve"),
    ("server", "src/aitbc/server/helpers.py", ""),
    ("acyclic", "src/aitbc/kernel/primitives/clock.py", "import aitbc.kernel.primitives.ids"),
    ("faces", "src/aitbc/modules/ai/service", "import aitbc.modules.trading.models"),
    ("order", "src/aitbc/modules/trading/service", "import aitbc.modules.ai.api"),
    ("order", "src/aitbc/modules/unplaced/__init__.py", ""),
    ("rooms", "src/aitbc/modules/trading/models", "import aitbc.modules.trading.service"),
    ("rooms", "src/aitbc/modules/trading/helpers.py", ""),
    (
        "book",
        "src/aitbc/modules/marketplace/service/offers",
        "import aitbc.modules.marketplace.service.posted_orders.orders",
    ),
    (
        "book",
        "src/aitbc/modules/marketplace/legacy/offers",
        "import aitbc.modules.marketplace.service.posted_orders.queries",
    ),
    ("rules", "src/aitbc/modules/trading/service", "import litestar"),
    ("pages", "src/aitbc/web/visit.py", "import aitbc.modules.trading.api"),
    ("pages", "src/aitbc/web/pages/ai.py", "import aitbc.server.admin.health"),
    ("page", "src/aitbc/web/market.py", "import aitbc.web.pages.ai"),
    ("page", "src/aitbc/web/helpers.py", ""),
    ("client", "src/aitbc/kernel/primitives/clock.py", "import aitbc_cli"),
    ("doors", "cli/aitbc_cli/__init__.py", "import aitbc.modules.trading.api"),
    ("slim", "cli/aitbc_cli/client.py", "import websockets"),
    ("slim", "cli/aitbc_cli/miner/task.py", "import aitbc.kernel.telemetry.logs"),
]


FIRST = list({contract: (contract, file, line) for contract, file, line in reversed(BREAKS)}.values())
"""The first way to break each contract."""
CHOSEN = scaled(FIRST, BREAKS)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source and its contracts, all kept, to be broken."""
    place = tmp_path_factory.mktemp("contracts")
    for folder in ("src", "cli"):
        shutil.copytree(ROOT / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    done = contracts(place)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
    return place


def contracts(place: Path, *only: str) -> subprocess.CompletedProcess[str]:
    """What import-linter says about a copy."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--cache-dir", str(place / "cache")]
    chosen = [f"--contract={contract}" for contract in only]
    environment = os.environ | {"PYTHONPATH": f"{place / 'src'}{os.pathsep}{place / 'cli'}"}
    return subprocess.run([*command, *chosen], cwd=place, env=environment, capture_output=True, text=True)


@contextmanager
def broken(place: Path, file: str, line: str) -> Iterator[None]:
    """One line more in one file, which may be a new one; taken out again at the end."""
    path = place / file
    if path.is_dir():
        path = path / "__init__.py"
    elif not path.exists() and path.with_suffix(".py").exists():
        path = path.with_suffix(".py")
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{before or ''}\n{line}\n", encoding="utf-8")
    try:
        yield
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before, encoding="utf-8")
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


@pytest.mark.parametrize(("contract", "file", "line"), CHOSEN, ids=[f"{c}-{Path(f).stem}" for c, f, _ in CHOSEN])
def test_a_contract_that_is_broken_on_purpose_turns_red(copy: Path, contract: str, file: str, line: str) -> None:
    with broken(copy, file, line):
        done = contracts(copy, contract)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout
