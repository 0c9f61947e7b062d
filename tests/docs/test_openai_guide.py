"""Every example of the guide to the official clients runs as it stands, against an installation with a miner."""

import contextlib
import io
from typing import Any

import pytest

from tests.architecture.source import ROOT
from tests.docs.console import fenced
from tests.modules.ai.protocols.bench import Bench
from tests.modules.ai.protocols.conftest import anyio_backend, bench

__all__ = ["anyio_backend", "bench"]
EMBEDS = True

PAGE = ROOT / "docs/guides/openai.md"


def test_every_example_runs_and_prints(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{bench.server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", bench.key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", bench.server.url)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", bench.key)
    names: dict[str, Any] = {}
    examples = fenced(PAGE, "python")
    assert len(examples) > 5
    for example in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(example, str(PAGE), "exec"), names)
        assert printed.getvalue().strip(), example
    names["client"].close()
