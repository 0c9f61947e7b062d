"""A backup of a working installation, brought back in an empty place: nothing is missing, and what was damaged is refused."""

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aitbc.app import MODULES
from tests.chaos.server_process import ServerProcess
from tests.cli.forked_program import as_forked
from tests.cli.miner.test_daemon import Market
from tests.cli.program import Ended
from tests.scale import scaled
from tests.server.runtime.test_serve import ask, free_port


def run(state: Path, *arguments: str) -> Ended:
    """The command line for one installation."""
    environment = {**os.environ, "AITBC_STATE_DIR": str(state)}
    return as_forked(*arguments, environment=environment, folder=state.parent)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Path, str]]:
    """A server that has done a paid job with a large output, and a backup that was made while it ran."""
    folder = tmp_path_factory.mktemp("backup")
    server = ServerProcess(folder / "state", free_port())
    server.start()
    (folder / "miners").mkdir()
    market = Market(server, folder / "miners")
    miner = market.start(token=market.token())
    try:
        job = market.submit("head -c 200000 /dev/zero | tr '\\0' a")
        market.until_state(job, "succeeded")
        market.until(lambda: ask(server, "/api/v1/trading/receipts")["data"])
        ended = run(server.state, "backup", str(folder / "a.backup"), "--json")
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["schema"].keys() == {"kernel", *(module.name for module in MODULES)}
        yield server, folder / "a.backup", job
    finally:
        miner.terminate()
        miner.wait(60)
        server.stop()


def test_everything_is_back_and_verified(made: tuple[ServerProcess, Path, str], tmp_path: Path) -> None:
    server, file, job = made
    assert file.stat().st_mode & 0o077 == 0
    state = tmp_path / "state"
    ended = run(state, "restore", str(file))
    assert ended.code == 0, ended.err
    assert "restored and verified" in ended.out
    again = ServerProcess(state, free_port())
    again.start()
    try:
        assert again.admin_key == server.admin_key
        paths = (
            "/api/v1/identity/accounts",
            "/api/v1/trading/receipts",
            f"/api/v1/ai/jobs/{job}",
            "/api/v1/trading/chain/keys",
        )
        for path in paths:
            assert ask(again, path) == ask(server, path), path
        artifact = ask(again, f"/api/v1/ai/jobs/{job}")["output"]["artifact"]
        assert ask(again, f"/api/v1/ai/artifacts/{artifact}")["stdout"] == "a" * 200_000
        assert ask(again, "/api/v1/trading/ledger/verify", {})["ok"] is True
    finally:
        again.stop()
    refused = run(state, "restore", str(file))
    assert refused.code == 5
    assert "not empty" in refused.err


@pytest.mark.parametrize("damage", ["no archive", *scaled([], ["cut short"]), "changed dump", "newer"])
def test_what_is_damaged_or_newer_is_refused_and_leaves_nothing(
    made: tuple[ServerProcess, Path, str], tmp_path: Path, damage: str
) -> None:
    content = bytearray(made[1].read_bytes())
    file, state = tmp_path / "damaged", tmp_path / "state"
    if damage == "no archive":
        content = bytearray(b"hello")
    elif damage == "cut short":
        del content[2000:]
    elif damage == "changed dump":
        with tarfile.open(made[1]) as archive:
            at = archive.getmember("database.dump").offset_data
        content[at : at + 64] = bytes(64)
    elif damage == "newer":
        content[:] = content.replace(b'"trading_0', b'"trading_9', 1)
    file.write_bytes(content)
    ended = run(state, "restore", str(file))
    assert ended.code in (2, 5, 6), ended.err
    assert "Traceback" not in ended.err
    assert not state.exists() or not list(state.iterdir())
