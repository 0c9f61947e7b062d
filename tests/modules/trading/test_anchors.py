"""Anchors of the chain at all the places they can be kept: a file, a real git repository, an endpoint on the web."""

import asyncio
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.trading.service import TradingService
from aitbc.server.config.settings import WebhookSettings
from aitbc.server.webhooks.egress import EgressPolicy
from aitbc.server.webhooks.outbound import Outbound
from aitbc_cli import main
from tests.cli.test_verify import run
from tests.cli.tiny_server import Received, Reply, answering
from tests.modules.trading.make import funded, trading_on
from tests.modules.trading.test_chain import export_of

ALLOWED = Outbound(EgressPolicy(WebhookSettings(allow_private=True)))
STRICT = Outbound(EgressPolicy(WebhookSettings()))


def git(*arguments: str) -> str:
    """What git says, which must go well."""
    return subprocess.run(["git", *arguments], capture_output=True, check=True, text=True).stdout


async def later(trading: TradingService) -> None:
    """A block more, and a minute."""
    await funded(trading, 7)
    await trading.seal()
    clock.move(timedelta(seconds=61))


class Shelf:
    """An endpoint that keeps what is posted, and answers with the lines of it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.status = 200

    def __call__(self, asked: Received) -> Reply:
        if asked.method == "GET":
            return Reply(200, b"".join(line + b"\n" for line in self.lines))
        if self.status == 200:
            assert asked.headers["content-type"] == "application/json"
            self.lines.append(asked.body)
        return Reply(self.status)


async def test_the_head_goes_to_each_place_and_an_export_is_verified_against_each(
    empty: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare, shelf, file = tmp_path / "bare.git", Shelf(), tmp_path / "anchors.jsonl"
    git("init", "--quiet", "--bare", str(bare))
    with answering(shelf) as web:
        places: dict[str, Any] = {"anchor_file": str(file), "anchor_git": str(bare), "anchor_url": f"{web.url}/anchors"}
        async with trading_on(
            empty, state_dir=tmp_path, egress=ALLOWED, anchor_seconds=60, anchor_branch="kept/here", **places
        ) as trading:
            assert await trading.anchors.anchor() == ["file", "git", "url"]
            assert await trading.anchors.anchor() == []  # the same head
            await later(trading)
            shelf.status = 503
            assert await trading.anchors.anchor() == ["file", "git"]  # one that fails keeps no other from going on
            shelf.status = 200
            assert await trading.anchors.anchor() == ["url"]
            git(
                "-C",
                str(bare),
                "update-ref",
                "refs/heads/kept/here",
                git("-C", str(bare), "rev-parse", "kept/here^").strip(),
            )
            assert await trading.anchors.anchor() == ["git"]  # its own memory is what is there
            (tmp_path / "chain.jsonl").write_bytes(await export_of(trading))
        assert git("-C", str(bare), "show", "kept/here:anchors.jsonl") == file.read_text()
        assert b"".join(line + b"\n" for line in shelf.lines) == file.read_bytes()
        assert git("-C", str(bare), "log", "--format=%s", "kept/here").count("Anchor block") == 2
        from_git, from_web = f"git+{bare}#kept/here", f"{web.url}/anchors"
        asked = ["chain", "verify", str(tmp_path / "chain.jsonl")]
        for place in (str(file), from_git, from_web):
            asked += ["--anchors", place]
        capsys.readouterr()  # what was logged
        code, report = await asyncio.to_thread(run, capsys, *asked)
        assert (code, report["anchors"]) == (0, 6)
        assert {one["anchors"] for one in report["anchored_by"].values()} == {2}
        shelf.lines[1] = shelf.lines[0].replace(b'"height":', b'"height":1', 1)
        assert (await asyncio.to_thread(run, capsys, *asked))[0] == 1
        assert (await asyncio.to_thread(run, capsys, *asked[:3], "--anchors", f"git+{tmp_path}/none.git"))[0] > 1


async def test_old_heads_are_warned_of_for_each_place(
    empty: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "anchors.jsonl"
    async with trading_on(empty, anchor_file=str(file)) as trading:
        await trading.anchors.anchor()
        (tmp_path / "chain.jsonl").write_bytes(await export_of(trading))
    clock.move(timedelta(days=2))
    asked = ["chain", "verify", str(tmp_path / "chain.jsonl"), "--anchors", str(file)]
    for age, warned in (("1d", True), ("3d", False)):
        assert main.run([*asked, "--anchor-age", age]) == 0
        assert ("the newest anchor of" in capsys.readouterr().err) is warned


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "https://localhost/x", "https://169.254.169.254/latest"])
async def test_nothing_is_posted_to_what_is_not_public(empty: Target, tmp_path: Path, url: str) -> None:
    async with trading_on(empty, egress=STRICT, anchor_url=url, anchor_file=str(tmp_path / "a")) as trading:
        assert await trading.anchors.anchor() == ["file"]


async def test_a_remote_that_is_not_there_hinders_nothing(empty: Target, tmp_path: Path) -> None:
    places: dict[str, Any] = {"anchor_git": str(tmp_path / "none.git"), "anchor_file": str(tmp_path / "a.jsonl")}
    async with trading_on(empty, state_dir=tmp_path, **places) as trading:
        assert await trading.anchors.anchor() == ["file"]
