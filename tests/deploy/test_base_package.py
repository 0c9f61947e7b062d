"""The package without an extra: a client and a miner for a laptop, small, which says what the server would need."""

import json
import re
import signal
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.chaos.server_process import ServerProcess
from tests.deploy.fresh_install import FreshInstall, wanted
from tests.deploy.programs import free_port
from tests.scale import only_in_full

BYTES_MAX = 64_000_000
"""43 MB are libraries; the rest is this program, of which the server and its modules are the most."""
MINER_SECONDS = 30.0
OF_THE_SERVER = (
    ["serve"],
    ["serve", "gpu"],
    ["serve", "--expose", "all"],
    ["demo", "--once"],
    ["db", "provision", "--sql"],
    ["db", "migrate"],
    ["db", "check"],
    ["db", "revision"],
    ["db", "shell"],
    ["backup", "aitbc.backup"],
    ["restore", "aitbc.backup"],
    ["upgrade", "--check"],
    ["config", "schema"],
)
"""Every command that needs the server on this machine."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> FreshInstall:
    """The installation."""
    return FreshInstall(tmp_path_factory.mktemp("base"))


# What is in it -------------------------------------------------------------------------------------------------------


def test_it_is_whole_and_small(base: FreshInstall) -> None:
    assert base.size <= BYTES_MAX
    assert base.run("--help").returncode == 0


def test_the_pinned_sets_hold_what_their_extras_ask_for_and_no_more(base: FreshInstall) -> None:
    assert {canonical(each) for each in wanted("aitbc")} <= pins("base")
    assert not pins("base") & extra("server")
    assert not pins("miner") & extra("server")
    assert pins("base") | extra("server") <= pins("server")
    assert pins("base") | extra("miner") <= pins("miner")
    assert pins("run") >= pins("server") | pins("miner")
    assert not pins("server") & extra("miner")


def canonical(name: str) -> str:
    """A package's name as files of requirements spell it."""
    return name.lower().replace("_", "-")


def pins(name: str) -> set[str]:
    """The packages of a file of requirements/, each of which has hashes."""
    text = (ROOT / f"requirements/{name}.txt").read_text()
    assert "://" not in text and "--index" not in text and "--find" not in text
    blocks = re.findall(r"(?m)^([a-z0-9][a-z0-9._-]*)==\S+(.*\n(?:    --hash=.*\n)*)", text)
    assert all("--hash=sha256:" in hashes for _, hashes in blocks)
    return {name for name, _ in blocks}


def extra(name: str) -> set[str]:
    """What pyproject.toml names for an extra."""
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][name]
    return {re.match(r"[a-z0-9-]+", line)[0] for line in lines}  # type: ignore[index]


# Commands that need more ---------------------------------------------------------------------------------------------


def test_serving_names_the_line_that_installs_the_server(base: FreshInstall, tmp_path: Path) -> None:
    ended = base.run("serve", AITBC_STATE_DIR=str(tmp_path / "state"))
    assert ended.returncode == 78
    assert ended.stderr.splitlines()[-1].endswith("'aitbc[server]'"), ended.stderr
    assert len(ended.stderr.splitlines()) == 2
    assert not (tmp_path / "state").exists()


def test_so_does_every_command_of_the_server(base: FreshInstall, tmp_path: Path) -> None:
    program = (
        f"import json; from aitbc_cli.main import run; print(json.dumps([run(w) for w in {list(OF_THE_SERVER)!r}]))"
    )
    ended = base.program(str(base.python), "-c", program, AITBC_STATE_DIR=str(tmp_path / "state"))
    codes = json.loads(ended.stdout.splitlines()[-1])
    assert dict(zip(map(" ".join, OF_THE_SERVER), codes, strict=True)) == {" ".join(w): 78 for w in OF_THE_SERVER}
    assert ended.stderr.count("'aitbc[server]'") == len(OF_THE_SERVER), ended.stderr
    assert not (tmp_path / "state").exists()


def test_programs_are_told_so_too(base: FreshInstall) -> None:
    ended = base.run("db", "check", "--json")
    told = json.loads(ended.stdout)["error"]
    assert (told["code"], told["exit_code"]) == ("server_not_installed", 78)
    assert "litestar" in told["missing"] and "aitbc[server]" in told["hint"]


def test_settings_are_those_of_the_command_line(base: FreshInstall) -> None:
    ended = base.run("config", "show", "--json", AITBC_URL="https://aitbc.example.org")
    assert ended.returncode == 0, ended.stderr
    rows = {row["key"]: row["value"] for row in json.loads(ended.stdout)}
    assert rows["client.url"] == "https://aitbc.example.org"
    assert all(key.startswith("client.") for key in rows)
    assert "not installed" in ended.stderr
    assert base.run("config", "validate").returncode == 0


def test_the_doctor_skips_what_only_a_server_has(base: FreshInstall, tmp_path: Path) -> None:
    nobody = {"AITBC_URL": f"http://127.0.0.1:{free_port()}", "AITBC_STATE_DIR": str(tmp_path / "state")}
    ended = base.run("doctor", "--json", **nobody)
    rows = {row["check"]: row for row in json.loads(ended.stdout)}
    assert {name for name, row in rows.items() if row["result"] == "failed"} == {"server"}, rows
    assert rows["packages"]["message"].endswith("without the server")
    for name in ("configuration", "postgres", "exposure", "tls", "database", "migrations", "bus", "port", "data"):
        assert rows[name]["result"] == "skipped", rows[name]
        assert "aitbc[server]" in rows[name]["fix"], rows[name]


@only_in_full
def test_a_miner_without_models_names_what_to_install(base: FreshInstall) -> None:
    token = "aitbc_enrol_" + "x" * 43
    ended = base.run("miner", "run", AITBC_URL=f"http://127.0.0.1:{free_port()}", AITBC_ENROLMENT_TOKEN=token)
    assert ended.returncode == 1
    assert "pip install 'aitbc[miner]'" in ended.stderr, ended.stderr


# Against a server ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of this checkout's environment, which has the extra."""
    process = ServerProcess(tmp_path_factory.mktemp("server") / "state", free_port())
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def known(base: FreshInstall, server: ServerProcess) -> dict[str, str]:
    """The server and a key for it, with money on its account."""
    told = {"AITBC_URL": server.url, "AITBC_API_KEY": server.admin_key}
    admin = json.loads(base.run("key", "whoami", "--json", **told).stdout)["account"]
    paid = base.run("deposit", admin, "1", **told)
    assert paid.returncode == 0, paid.stderr
    return told


@pytest.fixture(scope="module")
def miner(base: FreshInstall, known: dict[str, str]) -> Iterator[Path]:
    """A miner of the installation; the log of its events."""
    log = base.folder / "miner.log"
    words = [str(base.aitbc), "miner", "run", "--name", "attic", "--allow", "count=/usr/bin/wc", "--kind", "command"]
    with log.open("wb") as file:
        process = subprocess.Popen(words, env=base.environment(**known), cwd=base.folder, stdout=file, stderr=file)
    try:
        end = time.monotonic() + MINER_SECONDS
        while "online" not in base.run("miner", "list", "--json", **known).stdout:
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(MINER_SECONDS)


@only_in_full
def test_work_is_bought_and_done_with_it(base: FreshInstall, known: dict[str, str], miner: Path) -> None:
    (base.folder / "poem").write_text("two\nlines\n")
    words = ["--program", "count", "--stdin", "poem", "--max-price", "0.05", "--wait", "--json", "--", "-l"]
    bought = base.run("job", "submit", "command", *words, **known)
    assert bought.returncode == 0, bought.stderr + miner.read_text()
    job = json.loads(bought.stdout)
    assert job["state"] == "succeeded" and "2" in json.dumps(job["output"])
    saved = base.run("receipt", "save", job["receipt"], "--out", "receipt.json", **known)
    assert saved.returncode == 0, saved.stderr
    verified = base.run("receipt", "verify", "receipt.json")
    assert verified.returncode == 0, verified.stderr
