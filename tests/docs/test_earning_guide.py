"""The guide for owners of a GPU: its blocks run in order, with a real server and a small model server."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from aitbc_cli.commands.miner_kinds import KindFlags, kinds_of
from aitbc_cli.miner.serving.declared import serving_of
from tests.architecture.source import ROOT
from tests.chaos.server_process import ServerProcess
from tests.cli.miner.fake_nvml import FakeNvml
from tests.cli.miner.test_chat import Upstream
from tests.deploy.programs import DEPLOY, free_port
from tests.docs.console import examples, fenced
from tests.docs.shell import run_examples
from tests.scale import only_in_full

PAGE = ROOT / "docs/guides/earn-with-your-gpu.md"
AITBC = Path(sys.executable).with_name("aitbc")
UNIT = DEPLOY / "systemd/aitbc-miner.service"
EXAMPLES = examples(PAGE)
INSTALL, OF_A_FILE, OF_A_COMMAND, SERVICE = fenced(PAGE, "sh")
SECONDS = 100
MIB = 1 << 20
pytestmark = pytest.mark.timeout(240)


@dataclass(frozen=True)
class Place:
    """What the page has in mind, as it is here."""

    folder: Path
    market: ServerProcess
    model: Upstream

    def here(self, text: str) -> str:
        """A text of the page with the addresses of this place."""
        text = text.replace("https://aitbc.example.org", self.market.url)
        return text.replace("http://127.0.0.1:8000/v1", f"{self.model.url}/v1")

    @property
    def environment(self) -> dict[str, str]:
        """That of the operator, on the machine of the server."""
        path = f"{AITBC.parent}:{os.defpath}"
        own = {
            "HOME": str(self.folder),
            "AITBC_STATE_DIR": str(self.market.state),
            "PYTHONPATH": str(self.folder / "lib"),
        }
        return {"PATH": path, "LANG": "C.UTF-8", "AITBC_NO_INPUT": "1", **own}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Server, model server, and a card."""
    folder = tmp_path_factory.mktemp("earning")
    _show_a_card(folder / "lib")
    model = Upstream()
    threading.Thread(target=model.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    market = ServerProcess(folder / "state", free_port())
    market.start()
    yield Place(folder, market, model)
    market.stop()
    model.shutdown()
    model.server_close()


def _show_a_card(lib: Path) -> None:
    """Have NVIDIA's library show the card that the guide is about."""
    lib.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        nvml = FakeNvml(lib, patch)
        nvml.show(nvml.module.device(0, name="NVIDIA GeForce RTX 4090", total=24_564 * MIB, reserved=300 * MIB))


@pytest.fixture(scope="module")
def printed(place: Place) -> list[str]:
    """What each example printed."""
    commands = [replace(each, command=place.here(each.command)) for each in EXAMPLES]
    (place.folder / "owner").mkdir()
    return run_examples(commands, place.folder / "owner", place.environment, place.folder / "output", SECONDS)


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=[str(example) for example in EXAMPLES])
def test_an_example_prints_what_the_guide_says(printed: list[str], number: int) -> None:
    example = EXAMPLES[number]
    assert number < len(printed), f"the shell stopped at {EXAMPLES[len(printed)]}"
    wanted = "\n".join(example.printed)
    assert example.agrees_with(printed[number]), f"{example}\nwanted:\n{wanted}\nprinted:\n{printed[number]}"


def test_every_block_is_run() -> None:
    assert set(re.findall(r"(?m)^```(\w+)$", PAGE.read_text())) == {"console", "sh"}


def test_models_can_be_served_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").write_bytes(b"GGUF")
    declared: dict[str, list[str]] = {}
    for block in (OF_A_FILE, OF_A_COMMAND):
        words = shlex.split(block)
        assert words[:3] == ["aitbc", "miner", "run"]
        given = dict(zip(words[3::2], words[4::2], strict=True))
        name = given.get("--serve", "").partition("=")[0]
        files = [f"{name}={tmp_path / 'weights.gguf'}"] if name else []
        commands = [given["--serve-command"]] if "--serve-command" in given else []
        serving = serving_of(kinds_of(KindFlags(serve=files, serve_command=commands))["chat"])
        assert serving is not None
        declared |= {name: model.words(port=7, slots=int(given["--slots"])) for name, model in serving.models.items()}
    assert declared["llama-3b"][-2:] == ["7", "4"]
    assert declared["big"][-4:] == ["--port", "7", "--max-num-seqs", "16"]


def test_what_is_installed_is_the_base_at_the_place_of_the_unit() -> None:
    lines = INSTALL.splitlines()
    assert lines[0].split() == ["cd", "/opt/aitbc"] and lines[1].split()[-1] == ".venv"
    assert (ROOT / lines[2].split()[-1]).samefile(ROOT / "requirements/base.txt")
    assert lines[3].split()[1:] == ["install", "--no-deps", "."]
    assert f"ExecStart={lines[0].split()[1]}/.venv/bin/aitbc miner run " in UNIT.read_text()


@only_in_full
def test_the_service_enrols_with_what_the_guide_writes_and_works(place: Place, tmp_path: Path) -> None:
    owner = place.environment | {"AITBC_API_KEY": place.market.admin_key, "PATH": _silent_systemd(place, tmp_path)}
    etc, opt = tmp_path / "etc", tmp_path / "opt/aitbc"
    (etc / "systemd/system").mkdir(parents=True)
    shutil.copytree(ROOT / "deploy", opt / "deploy")
    (opt / ".venv").symlink_to(sys.prefix)
    text = place.here(SERVICE).replace("/etc/", f"{etc}/").replace("/opt/aitbc", str(opt))
    subprocess.run(["bash", "-euc", text], env=owner, check=True, timeout=60)
    assert (tmp_path / "systemctl.log").read_text().split() == ["daemon-reload", "enable", "--now", "aitbc-miner"]
    assert (etc / "systemd/system/aitbc-miner.service").read_text() == UNIT.read_text()
    assert (etc / "credstore/aitbc.enrolment_token").stat().st_mode & 0o077 == 0
    service = _started(etc, opt, tmp_path, place)
    try:
        _until_online(place, "unit", tmp_path / "journal")
    finally:
        service.terminate()
    assert service.wait(40) == 0, (tmp_path / "journal").read_text()


def _silent_systemd(place: Place, folder: Path) -> str:
    """A PATH on which systemctl and journalctl do nothing, and write down what they were asked."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("systemctl", "journalctl"):
        (programs / name).write_text(f'#!/bin/sh\necho "$@" >> {folder}/{name}.log\n')
        (programs / name).chmod(0o755)
    return f"{programs}:{place.environment['PATH']}"


def _started(etc: Path, opt: Path, state: Path, place: Place) -> "subprocess.Popen[bytes]":
    """The unit's process, with what systemd puts in place of its specifiers and variables."""
    (line,) = re.findall(r"(?m)^ExecStart=(.*)$", UNIT.read_text())
    written = dict(each.split("=", 1) for each in (etc / "aitbc/miner.environment").read_text().splitlines())
    (source,) = re.findall(r"(?m)^LoadCredential=enrolment_token:(.*)$", UNIT.read_text())
    credentials = state / "credentials"
    credentials.mkdir()
    shutil.copy(etc / "credstore" / source, credentials / "enrolment_token")
    line = line.replace("/opt/aitbc", str(opt)).replace("%l", "unit").replace("%S", str(state))
    words = shlex.split(line.replace("%d", str(credentials)).replace("$MINER_OPTIONS", written["MINER_OPTIONS"]))
    environment = {
        "PATH": "/usr/bin:/bin",
        "AITBC_STATE_DIR": str(state / "aitbc-miner"),
        "AITBC_URL": written["AITBC_URL"],
    }
    with (state / "journal").open("wb") as journal:
        return subprocess.Popen(words, env=environment, cwd="/", stdout=journal, stderr=journal)


def _until_online(place: Place, name: str, journal: Path) -> None:
    end = time.monotonic() + 40
    asked = [str(AITBC), "miner", "list", "--status", "online", "--json", "--fields", "name"]
    while f'"{name}"' not in subprocess.run(asked, env=place.environment, capture_output=True, text=True).stdout:
        assert time.monotonic() < end, journal.read_text()
        time.sleep(0.3)
