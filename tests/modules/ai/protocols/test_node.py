"""OpenAI's own client for Node, where Node is present and the package can be had from the registry."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.modules.ai.protocols.bench import Bench
from tests.scale import only_in_full

VERSION = "7.55.0"
EMBEDS = True
SCRIPT = Path(__file__).with_name("client.mjs")
SECONDS = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and the package that it imports."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm")
    made = tmp_path_factory.mktemp("node")
    shutil.copy(SCRIPT, made)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"openai@{VERSION}"]
    done = subprocess.run(install, cwd=made, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install openai@{VERSION}: {done.stderr[-200:]}")
    return made


@only_in_full
def test_the_client_for_node_works_unchanged(bench: Bench, folder: Path) -> None:
    environment = {**os.environ, "OPENAI_BASE_URL": f"{bench.server.url}/v1", "OPENAI_API_KEY": bench.key}
    command = ["node", SCRIPT.name]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    assert {"scripted", "wordllama-256"} <= set(seen["models"])
    assert seen["chat"] == ["one two ", 7, "string"]
    assert (seen["stream"], seen["usage"]) == ("one two ", 7)
    assert seen["tool"] == [["call_7", "weather", '{"city": "Oslo"}']]
    assert (seen["response"], seen["completion"], seen["vectors"]) == ("three ", "four ", [256, 256])
    assert seen["batch"] == ["completed", "five "] and seen["batches"] >= 1
    failed = {name: (seen[name]["name"], seen[name]["status"]) for name in ("unknown", "refused", "stranger", "absent")}
    assert failed == {
        "unknown": ("NotFoundError", 404),
        "refused": ("BadRequestError", 400),
        "stranger": ("AuthenticationError", 401),
        "absent": ("InternalServerError", 501),
    }
    assert seen["refused"]["param"] == "frobnicate"
    assert (seen["broken"]["name"], seen["broken"]["code"]) == ("APIError", "answer_broken")
