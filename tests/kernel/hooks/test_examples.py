"""The examples are built from their sources, pass the rules, and do what they say."""

import sys
from importlib import invalidate_caches
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.manifest import manifest_of
from aitbc.kernel.hooks.points import JUDGE_RESULT, PRICE, VALIDATE_SUBMISSION, Submission
from aitbc.kernel.hooks.rules.all_rules import findings_in
from aitbc.kernel.hooks.rules.package import Known
from aitbc.kernel.hooks.sandbox import Sandbox
from aitbc.kernel.hooks.trusted import files_digest, trusted_plugins
from tests.kernel.hooks.plugins import delivered, price_asked, sandbox

EXAMPLES = Path(__file__).parents[3] / "examples/plugins"


def example(name: str) -> Sandbox:
    """An example, as it is built and loaded."""
    text = (EXAMPLES / name / "plugin.json").read_bytes()
    code = bytes(wasmtime.wat2wasm((EXAMPLES / name / "plugin.wat").read_text()))
    assert findings_in(text, code, Known(release="0.1.0")) == []
    manifest = manifest_of(text)
    return sandbox(code, name=manifest.name, hooks=manifest.hooks)


async def test_the_night_is_half_the_price() -> None:
    plugin = example("night-price")
    for hour in range(24):
        answer = await plugin.ask(PRICE, price_asked(at=86_400 * 20_000 + hour * 3600 + 1800), None)
        assert (answer.unit_price_units if answer else None) == (500 if hour >= 22 or hour < 6 else None), hour


@pytest.mark.parametrize(
    ("output", "refused"),
    [
        ('{"model":"a1","vectors":[[0.0,0,0.00]],"weights":"sha256:12"}', True),
        ('{"model":"a1","vectors":[[0.0,0,0.10]],"weights":"sha256:12"}', False),
        ('{"vectors":[[-9e-9]]}', False),
        ('{"vectors":9}', False),
        ("]9[", False),
        ("[", False),
        ("", False),
    ],
)
async def test_nothing_but_zeros_is_refused(output: str, refused: bool) -> None:
    answer = await example("no-zeros").ask(JUDGE_RESULT, delivered(output), None)
    assert (answer.reason if answer else None) == ("every number of the embedding is zero" if refused else None)


async def test_a_trusted_package_is_loaded_by_its_name_and_only_with_the_digest_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "house_rules.py").write_text((EXAMPLES / "house-rules/house_rules.py").read_text())
    told = tmp_path / "house_rules-1.0.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: house-rules\nVersion: 1.0.0\n")
    (told / "entry_points.txt").write_text("[aitbc.plugins]\nrules = house_rules\n")
    (told / "RECORD").write_text("house_rules.py,,\nhouse_rules-1.0.0.dist-info/METADATA,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    assert trusted_plugins(["another"]) == []
    digest = files_digest(distribution("house-rules"))
    try:
        routes, plugin = sorted(trusted_plugins([f"house-rules {digest}"]), key=lambda one: len(one.wraps))
        assert [one.name for one in routes.routes] == ["limits"]
        hooks = Hooks()
        hooks.load(plugin)
        usual: dict[str, Any] = {
            "at": 0,
            "account": "a",
            "kind": "embed",
            "model": "",
            "units": 1,
            "units_max": 1,
            "priority": 5,
        }
        dear = Submission(max_price_units=100 * 10**8 + 1, **usual)
        given = await hooks.first(VALIDATE_SUBMISSION, dear)
        assert given is not None and "100 AITBC" in given.answer.reason
        assert await hooks.first(VALIDATE_SUBMISSION, Submission(max_price_units=100 * 10**8, **usual)) is None
        with (tmp_path / "house_rules.py").open("a") as file:
            file.write("# changed\n")
        assert trusted_plugins([f"house-rules {digest}"]) == []
        assert len(trusted_plugins(["house-rules"])) == 2
    finally:
        sys.modules.pop("house_rules", None)
