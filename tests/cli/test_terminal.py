"""The program on terminals, in pipes and interrupted, and before servers that go away."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.forked_program import as_forked
from tests.cli.installation import CliInstallation
from tests.cli.program import AITBC, SECONDS, as_program, on_terminal, surroundings, until_connected
from tests.cli.tiny_server import Received, Reply, answering, silent, told
from tests.scale import scaled

PAINT = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "\x1b]0;owned\x07\u202ename"


@pytest.fixture
def user(tmp_path: Path) -> dict[str, str]:
    """A user with a key and a colourful terminal."""
    return surroundings(tmp_path, AITBC_API_KEY="aitbc_live_of_a_test", TERM="xterm-256color")


def job_list(asked: Received) -> Reply:
    """Two hundred jobs with hostile names."""
    row = {"id": HOSTILE, "kind": "embed", "state": "succeeded", "reason": HOSTILE, "price": None, "max_price": "1"}
    return told({"data": [{**row, "created_at": HOSTILE}] * 200, "has_more": False, "next_cursor": None})


@pytest.mark.parametrize("form", scaled(["table"], ["table", "json", "jsonl", "csv", "name"]))
def test_a_pipe_gets_what_a_terminal_gets_apart_from_colour(form: str, user: dict[str, str], tmp_path: Path) -> None:
    with answering(job_list) as server:
        words = ("job", "list", "--url", server.url, "--all", "-o", form)
        piped, shown = as_forked(*words, environment=user, folder=tmp_path), on_terminal(*words, environment=user)
        plain = on_terminal(*words, environment={**user, "NO_COLOR": "1"})
        dumb = on_terminal(*words, environment={**user, "TERM": "dumb"})
    assert (piped.code, shown.code) == (0, 0)
    assert PAINT.sub("", shown.out) == piped.out == plain.out == dumb.out
    assert ("\x1b[32m" in shown.out) == (form == "table")
    assert not set("\x1b\x07\u202e") & set(piped.out)


@pytest.mark.parametrize("width", ["40", "400"])
def test_no_width_of_a_terminal_cuts_data(width: str, user: dict[str, str], tmp_path: Path) -> None:
    with answering(job_list) as server:
        words = ("job", "list", "--url", server.url)
        told = [as_forked(*words, environment=each, folder=tmp_path) for each in ({**user, "COLUMNS": width}, user)]
        assert told[0] == told[1]


def test_a_terminal_without_utf_8_shows_what_it_can(user: dict[str, str]) -> None:
    poor = {**user, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    page = {"data": [{"id": "acct_1", "name": "日本", "created_at": ""}], "has_more": False, "next_cursor": None}
    with answering(told(page)) as server:
        table = as_program("account", "list", "--url", server.url, environment=poor)
        as_json = as_program("account", "list", "--url", server.url, "--json", environment=poor)
        helped = as_program("job", "logs", "--help", environment=poor)
    assert (table.code, as_json.code, helped.code) == (0, 0, 0)
    assert "??" in table.out
    assert json.loads(as_json.out)[0]["name"] == "日本"


def test_a_reader_that_goes_away_is_no_fault(user: dict[str, str]) -> None:
    with answering(job_list) as server:
        for form in scaled(("table",), ("table", "jsonl", "csv", "name")):
            line = f"{AITBC} job list --all -o {form} --url {server.url} | head -n 1; exit ${{PIPESTATUS[0]}}"
            done = subprocess.run(["bash", "-c", line], env=user, capture_output=True, text=True, timeout=SECONDS)
            assert done.stderr == ""
            assert done.returncode in (0, 141)
            assert len(done.stdout.splitlines()) == 1
    for words in scaled(("job --help",), ("--help", "job --help", "chain --help")):
        line = f"{AITBC} {words} | true"
        done = subprocess.run(["bash", "-c", line], env=user, capture_output=True, text=True, timeout=SECONDS)
        assert done.stderr == ""


INTERRUPTED = [
    ("job", "list"),
    ("job", "wait", "job_1"),
    ("job", "watch", "job_1"),
    ("job", "logs", "job_1", "-f"),
    ("chain", "export", "chain.jsonl"),
    ("ledger", "verify"),
    ("deposit", "acct_1", "1"),
]


def test_ctrl_c_ends_a_command_at_once_with_130(user: dict[str, str], tmp_path: Path) -> None:
    with silent() as url:
        programs = {
            words: subprocess.Popen(
                [AITBC, *words, "--url", url],
                env=user,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
            )
            for words in scaled(INTERRUPTED[1::3], INTERRUPTED)
        }
        for program in programs.values():
            until_connected(program)
        for words, program in programs.items():
            program.send_signal(signal.SIGINT)
            out, said = program.communicate(timeout=SECONDS)  # the server never answers
            assert (program.returncode, out) == (130, ""), (words, said)
            assert "Traceback" not in said, words
    assert not list(tmp_path.glob("*chain.jsonl*"))


def test_leaving_a_job_does_not_stop_it(installation: CliInstallation) -> None:
    alice = installation.alice
    job = alice.does("job", "submit", "embed", "--text", "x", "--max-price", "0.05", "-q").out.strip()
    program = subprocess.Popen([AITBC, "job", "wait", job], env=alice.environment, stderr=subprocess.PIPE, text=True)
    until_connected(program)
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=SECONDS)
    assert program.returncode == 130
    assert f"detached; {job} goes on" in said
    assert f"aitbc job cancel {job}" in said
    assert alice.gets("job", "show", job)["state"] == "queued"
    alice.does("job", "cancel", job)


def test_a_wait_outlives_the_server_and_its_return(installation: CliInstallation) -> None:
    alice = installation.alice
    job = alice.does("job", "submit", "embed", "--text", "x", "--max-price", "0.05", "-q").out.strip()
    waiting = subprocess.Popen([AITBC, "job", "wait", job], env=alice.environment, stderr=subprocess.PIPE, text=True)
    watching = subprocess.Popen(
        [AITBC, "job", "watch", job, "-o", "jsonl"], env=alice.environment, stdout=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None and waiting.stderr is not None
    first = watching.stdout.readline()
    until_connected(waiting)
    installation.server.kill()
    noticed = waiting.stderr.readline()
    assert (waiting.poll(), watching.poll()) == (None, None)
    installation.server.start()
    alice.does("job", "cancel", job)
    said, seen = waiting.stderr.read(), first + watching.stdout.read()
    assert (waiting.wait(SECONDS), watching.wait(SECONDS)) == (1, 1)
    assert "trying again" in noticed and "canceled" in said
    ids = [json.loads(line)["id"] for line in seen.splitlines() if json.loads(line)["id"]]
    assert len(ids) == len(set(ids))
    assert json.loads(seen.splitlines()[-1])["data"]["state"] == "canceled"


def test_a_server_that_dies_in_the_middle_leaves_no_half_file(user: dict[str, str], tmp_path: Path) -> None:
    chain = tmp_path / "chain.jsonl"
    chain.write_text("what was there\n")
    with answering(Reply(200, b'{"chain": 1}\n' * 1000, breaks=500)) as server:
        ended = as_program("chain", "export", str(chain), "--url", server.url, environment=user)
    assert (ended.code, ended.out) == (6, "")
    assert chain.read_text() == "what was there\n"
    assert [file.name for file in tmp_path.iterdir()] == ["chain.jsonl"]


def test_a_key_never_stands_in_the_arguments_of_a_process(user: dict[str, str]) -> None:
    with silent() as url:
        program = subprocess.Popen([AITBC, "job", "list", "--url", url], env=user, stderr=subprocess.DEVNULL)
        until_connected(program)
        line = Path(f"/proc/{program.pid}/cmdline").read_bytes()
        program.kill()
        program.wait()
    assert b"aitbc_live_of_a_test" not in line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_its_shell(shell: str, user: dict[str, str], tmp_path: Path) -> None:
    here: Any = {"environment": user, "folder": tmp_path}
    script = as_forked("completion", "show", shell, **here).out
    assert "_AITBC_COMPLETE" in script
    found = shutil.which(shell)
    if found is not None:
        file = tmp_path / "script"
        file.write_text(script)
        assert subprocess.run([found, "-n", str(file)], timeout=SECONDS).returncode == 0
    first = as_forked("completion", "install", shell, "--json", **here)
    again = as_forked("completion", "install", shell, **here)
    assert (first.code, again.code) == (0, 0)
    assert Path(json.loads(first.out)["files"][0]).read_text() == script
    if shell == "zsh":
        assert (tmp_path / ".zshrc").read_text().count("# completion of aitbc") == 1


def completions(line: str, environment: dict[str, str]) -> list[str]:
    """What bash offers at the end of a line."""
    program = (
        f'source <({AITBC} completion show bash); COMP_WORDS=({line} ""); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1));'
    )
    program += ' _aitbc_completion aitbc; printf "%s\\n" "${COMPREPLY[@]}"'
    path = f"{os.path.dirname(AITBC)}:{environment['PATH']}"  # noqa: PTH120 - the folder of a program
    done = subprocess.run(
        ["bash", "-c", program], env={**environment, "PATH": path}, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_bash_completes_nouns_verbs_and_ids(installation: CliInstallation) -> None:
    alice = installation.alice
    assert {"job", "miner", "doctor"} <= set(completions("aitbc", alice.environment))
    assert "submit" in completions("aitbc job", alice.environment)
    job = alice.does("job", "submit", "embed", "--text", "x", "--max-price", "0.05", "-q").out.strip()
    assert job in completions("aitbc job show", alice.environment)
    assert completions("aitbc job show", {**alice.environment, "AITBC_URL": "http://127.0.0.1:9"}) == []
    alice.does("job", "cancel", job)
