"""The files in which running servers describe themselves, and processes that refuse their configuration."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aitbc.kernel.primitives.server_file import OwnServerFile, is_held, server_file_of
from aitbc.server.cluster.directory import Placed
from aitbc.server.cluster.peers import Peer
from aitbc.server.cluster.service_token import Tokens
from aitbc.server.config.hosts import PeerHost
from aitbc.server.runtime.supervisor import Child
from aitbc_cli.settings import local_url

ANOTHER = """
import json, sys
from pathlib import Path
from aitbc.kernel.primitives.server_file import OwnServerFile
own = OwnServerFile(Path(sys.argv[1]), json.dumps({"url": sys.argv[2], "pid": 1}))
print("written", flush=True)
sys.stdin.read()
own.remove()
"""


def another(state: Path, url: str) -> "subprocess.Popen[str]":
    """Another process that says it serves this state folder, until its input ends."""
    command = [sys.executable, "-c", ANOTHER, str(state), url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "written\n"
    return process


def test_each_server_of_a_folder_has_its_own_file_and_the_one_that_lives_is_found(tmp_path: Path) -> None:
    first = another(tmp_path, "http://127.0.0.1:1")
    second = another(tmp_path, "http://127.0.0.1:2")
    assert local_url(tmp_path) == "http://127.0.0.1:1"
    first.communicate("")
    assert not (tmp_path / "server.json").exists()
    assert local_url(tmp_path) == "http://127.0.0.1:2"
    third = another(tmp_path, "http://127.0.0.1:3")
    second.communicate("")
    assert local_url(tmp_path) == "http://127.0.0.1:3"
    third.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_behind_is_not_one_that_lives(tmp_path: Path) -> None:
    killed, stays = another(tmp_path, "http://127.0.0.1:1"), another(tmp_path, "http://127.0.0.1:2")
    killed.kill()
    killed.communicate()
    assert not is_held(tmp_path / "server.json")
    assert local_url(tmp_path) == "http://127.0.0.1:2"
    own = OwnServerFile(tmp_path, json.dumps({"url": "http://127.0.0.1:3"}))
    assert server_file_of(tmp_path) == tmp_path / "server.json"
    stays.kill()
    stays.communicate()
    own.remove()
    assert local_url(tmp_path) is None


@pytest.mark.parametrize(("code", "starts"), [(78, 1), (1, 3)])
async def test_a_process_that_refuses_its_configuration_is_not_started_again(
    code: int, starts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitbc.server.runtime.supervisor.BACKOFF_SECONDS", (0.01, 0.01))
    peer = Peer(PeerHost(process="gpu", socket=tmp_path / "gpu.sock"), Tokens(b"secret", "main"))
    log = tmp_path / "starts"
    program = f"import sys; open({str(log)!r}, 'a').write('x'); sys.exit({code})"
    child = Child("gpu", peer, [sys.executable, "-c", program])
    with capture_logs() as lines:
        running = asyncio.create_task(child.run())
        async with asyncio.timeout(30):
            if code == 78:
                await running
            while not log.exists() or log.stat().st_size < starts:  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.02)
    assert [line["event"] for line in lines].count("process_given_up") == (code == 78)
    reason = await peer.readiness()
    assert reason is not None
    if code == 78:
        assert log.read_text() == "x"
        assert "78" in reason and Placed.of("gpu", "gpu", None, peer.gave_up).reason == reason
    else:
        assert not running.done() and peer.gave_up is None
        child.stop()
        await running
