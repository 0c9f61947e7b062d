"""The doctor on this machine's own things: each fault is made in a folder, named with its fix, and gone once the fix was typed."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aitbc.kernel.crypto.api_key import new_key
from aitbc_cli import exits, packages
from aitbc_cli.doctor import configuration, machine, miners, programs, server, state
from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.finding import Check, Finding, ok
from aitbc_cli.doctor.rounds import CHECKS, examine
from aitbc_cli.main import run
from aitbc_cli.settings import Flags
from tests.nats_server import NatsServer
from tests.scale import only_in_full


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The state folder of a server that ran here and stopped."""
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    for name, content in (("admin.key", new_key("admin")), ("secret.key", "0" * 64), ("node.key", "0" * 64)):
        (made / name).write_text(content + "\n")
        (made / name).chmod(0o600)
    return made


@pytest.fixture
def case(folder: Path, tmp_path: Path) -> Callable[..., Case]:
    """A fresh look at the folder, with more in the environment where a test wants that."""

    def look(environ: Mapping[str, str] | None = None, **limits: Any) -> Case:
        known = {"AITBC_STATE_DIR": str(folder), "HOME": str(tmp_path), **(environ or {})}
        return Case(environ=known, folder=tmp_path, system_file=tmp_path / "none.toml", **limits)

    return look


def type_in(fix: str | None) -> None:
    """What a person does with a fix."""
    assert fix is not None
    subprocess.run(["/bin/sh", "-c", fix], check=True)


def rows_of(case: Case, *names: str) -> dict[str, Any]:
    """The rows of some checks, by name."""
    found = examine(case, [check for check in CHECKS if check.name in names])
    return {row["check"]: row for row in found}


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return int(taken.getsockname()[1])


# The rounds ----------------------------------------------------------------------------------------------------------


def test_every_check_has_a_name_of_its_own_and_a_purpose() -> None:
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names)) >= 30
    assert all(check.purpose for check in CHECKS)


def test_a_check_that_breaks_is_a_failed_row_and_one_that_hangs_too(case: Callable[..., Case]) -> None:
    def breaks(_: Case) -> Finding:
        raise ZeroDivisionError("by nothing")

    def hangs(_: Case) -> Finding:
        time.sleep(3)
        return ok("late")

    checks = [Check("breaks", "-", breaks), Check("hangs", "-", hangs), Check("fine", "-", lambda _: ok("fine"))]
    broken, hung, fine = examine(case(), checks, seconds=0.3)
    assert (broken["result"], broken["fix"]) == ("failed", "aitbc doctor --only breaks")
    assert "ZeroDivisionError: by nothing" in broken["message"]
    assert (hung["result"], hung["message"]) == ("failed", "no answer within 0.3 s")
    assert fine == {"check": "fine", "result": "ok", "message": "fine", "fix": None}


def test_whatever_is_not_ok_has_a_fix_and_nothing_is_changed_without_a_server(
    case: Callable[..., Case], folder: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    started = time.monotonic()
    rows = examine(case({"AITBC_URL": f"http://127.0.0.1:{free_port()}"}), CHECKS)
    assert time.monotonic() - started < 20
    assert all(row["fix"] for row in rows if row["result"] in ("failed", "warning"))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    found = {row["check"]: row["result"] for row in rows}
    assert found["server"] == "failed"
    assert found["state-folder"] == found["admin-key"] == found["configuration"] == found["postgres"] == "ok"
    assert found["ready"] == found["migrations"] == found["chain"] == "skipped"


# The command ---------------------------------------------------------------------------------------------------------


def test_without_a_server_the_command_names_the_one_that_starts_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("AITBC_STATE_DIR", str(folder))
    monkeypatch.setenv("AITBC_URL", f"http://127.0.0.1:{port}")
    assert run(["doctor", "--only", "server", "--only", "disk", "-o", "json"]) == exits.FAILED
    disk, answer = json.loads(capsys.readouterr().out)
    assert (disk["check"], disk["result"], disk["fix"]) == ("disk", "ok", None)
    assert (answer["check"], answer["result"], answer["fix"]) == ("server", "failed", f"aitbc serve --port {port}")
    assert run(["doctor", "--only", "server"]) == exits.FAILED
    assert capsys.readouterr().out.splitlines()[-3:] == [f"    aitbc serve --port {port}", "", "1 failed"]


def test_an_unknown_check_is_wrong_usage_and_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--only", "wether"]) == exits.USAGE
    assert "checks: python, packages" in capsys.readouterr().err


def test_the_doctor_comes_without_the_server() -> None:
    loaded = "import sys, aitbc_cli.doctor.rounds; sys.exit(any(name.startswith('aitbc.') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", loaded]).returncode == 0


# Programs and machine ------------------------------------------------------------------------------------------------


def test_an_old_python_is_named(case: Callable[..., Case], monkeypatch: pytest.MonkeyPatch) -> None:
    assert programs.python(case()).result == "ok"
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    found = programs.python(case())
    assert (found.result, found.fix) == ("failed", "uv venv --python 3.11 && uv pip install aitbc")


def test_a_package_that_is_missing_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert packages.is_installed("aitbc>=0.1") and not packages.is_installed("no-such-package>=1,<2")
    command = packages.install(["no-such-package>=1,<2"])
    assert command.endswith(" 'no-such-package>=1,<2'") and sys.executable in command


def test_the_workers_libraries_are_found_and_not_loaded() -> None:
    code = (
        "import sys; from aitbc_cli.doctor import programs; from aitbc_cli.doctor.case import Case\n"
        "found = programs.embed(Case()), programs.ocr(Case())\n"
        "assert [each.result for each in found] == ['ok', 'ok'], found\n"
        "sys.exit('wordllama' in sys.modules or 'rapidocr' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_library_that_is_not_there_is_a_warning(monkeypatch: pytest.MonkeyPatch, case: Callable[..., Case]) -> None:
    monkeypatch.setattr(programs, "find_spec", lambda name: None)
    found = programs.embed(case())
    assert found.result == "warning" and "wordllama" in str(found.fix) and "install" in str(found.fix)


def test_a_full_disk_and_a_full_memory_are_seen(case: Callable[..., Case]) -> None:
    assert machine.disk(case()).result == "ok"
    full = machine.disk(case(free_bytes_min=1 << 60))
    assert full.result == "failed" and str(full.fix).startswith("du -xhd2 ")
    assert machine.disk(case(free_bytes_wanted=1 << 60)).result == "warning"
    assert machine.memory(case(memory_mib_wanted=1 << 40)).result == "warning"


def test_a_terminal_without_utf8_is_a_warning() -> None:
    code = "from aitbc_cli.doctor import machine as m; from aitbc_cli.doctor.case import Case; print(m.text(Case()))"
    ascii_only = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    told = subprocess.run([sys.executable, "-c", code], env=ascii_only, capture_output=True, text=True).stdout
    assert "'warning'" in told and "export LANG=C.UTF-8" in told


def test_a_low_limit_of_open_files_is_a_warning() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
        "from aitbc_cli.doctor import machine as m; from aitbc_cli.doctor.case import Case; print(m.open_files(Case()))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "'warning'" in told and "/etc/security/limits.d/aitbc.conf" in told


def test_completion_is_seen_once_installed_and_when_it_is_old(
    case: Callable[..., Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = {"SHELL": "/bin/bash", "XDG_DATA_HOME": str(tmp_path)}
    missing = machine.completion(case(shell))
    assert (missing.result, missing.fix) == ("skipped", "aitbc completion install bash")
    for name, value in shell.items():
        monkeypatch.setenv(name, value)
    assert run(["completion", "install"]) == exits.DONE
    installed = machine.completion(case(shell))
    assert installed.result == "ok"
    next(tmp_path.rglob("completions/aitbc")).write_text("# another\n")
    assert machine.completion(case(shell)).result == "warning"


# Settings ------------------------------------------------------------------------------------------------------------


def test_an_unknown_variable_is_named_with_the_right_one(case: Callable[..., Case]) -> None:
    found = configuration.configuration(case({"AITBC_SERVER__PROT": "9000"}))
    assert found.result == "failed" and "AITBC_SERVER__PROT is not a setting" in found.message
    assert found.fix == 'export AITBC_SERVER__PORT="$AITBC_SERVER__PROT"; unset AITBC_SERVER__PROT'


def test_an_unknown_setting_of_a_file_is_corrected_by_its_fix(case: Callable[..., Case], tmp_path: Path) -> None:
    (tmp_path / "aitbc.toml").write_text("[server]\nprot = 9000\n")
    found = configuration.configuration(case())
    assert found.result == "failed" and "server.prot is not a setting" in found.message
    type_in(found.fix)
    assert configuration.configuration(case()).result == "ok"
    assert case().settings.server.port == 9000


def test_a_value_that_is_none_is_named_with_its_variable(case: Callable[..., Case]) -> None:
    found = configuration.configuration(case({"AITBC_SERVER__PORT": "many"}))
    assert found.result == "failed" and str(found.fix).startswith("unset AITBC_SERVER__PORT")
    assert rows_of(case({"AITBC_SERVER__PORT": "many"}), "exposure")["exposure"]["result"] == "skipped"


def test_a_profile_that_is_not_there_is_named(case: Callable[..., Case], tmp_path: Path) -> None:
    wrong = case({"AITBC_PROFILE": "nowhere", "XDG_CONFIG_HOME": str(tmp_path)})
    found = configuration.client(wrong)
    assert found.result == "failed" and "[profiles.nowhere]" in str(found.fix)
    assert rows_of(wrong, "server")["server"]["fix"] == "aitbc doctor --only client"
    assert configuration.client(case()).result == "ok"


def test_a_proxy_that_would_catch_loopback_is_a_warning_until_its_fix(case: Callable[..., Case]) -> None:
    named = {"http_proxy": "http://proxy:3128", "no_proxy": "example.org"}
    found = configuration.proxy(case(named))
    assert found.result == "warning"
    assert found.fix is not None
    spared = found.fix.split()[1].removeprefix("no_proxy=")
    assert spared == "example.org,localhost,127.0.0.1,::1"
    assert configuration.proxy(case({**named, "no_proxy": spared})).result == "ok"
    assert configuration.proxy(case()).result == "ok"


def test_an_open_door_is_named_and_one_that_was_accepted_is_a_warning(case: Callable[..., Case]) -> None:
    wide = {"AITBC_SERVER__HOST": "0.0.0.0"}
    refused = configuration.exposure(case(wide))
    assert refused.result == "failed" and 'server.host = "127.0.0.1"' in str(refused.fix)
    accepted = configuration.exposure(case({**wide, "AITBC_SERVER__I_ACCEPT_PLAIN_HTTP": "true"}))
    assert accepted.result == "warning" and "server.tls_certificate" in str(accepted.fix)
    assert configuration.exposure(case()).result == "ok"


def test_a_key_in_the_clear_is_a_warning(case: Callable[..., Case]) -> None:
    found = configuration.transport(case({"AITBC_URL": "http://aitbc.example.org"}))
    assert (found.result, found.fix) == ("warning", "export AITBC_URL=https://aitbc.example.org")
    assert configuration.transport(case({"AITBC_URL": "https://aitbc.example.org"})).result == "ok"
    assert configuration.transport(case()).result == "ok"


def test_a_certificate_that_is_not_there_is_named(case: Callable[..., Case], tmp_path: Path) -> None:
    files = {"AITBC_SERVER__TLS_CERTIFICATE": str(tmp_path / "c.pem"), "AITBC_SERVER__TLS_KEY": str(tmp_path / "k.pem")}
    found = configuration.tls(case(files))
    assert found.result == "failed" and "c.pem cannot be read" in found.message and "openssl req" in str(found.fix)
    assert configuration.tls(case()).result == "skipped"


# The state folder ----------------------------------------------------------------------------------------------------


def test_an_open_state_folder_is_closed_by_its_fix(case: Callable[..., Case], folder: Path) -> None:
    folder.chmod(0o755)
    found = state.folder(case())
    assert (found.result, found.fix) == ("failed", f"chmod 700 {folder}")
    type_in(found.fix)
    assert state.folder(case()).result == "ok"


def test_a_state_folder_that_is_a_file_or_missing_is_told(case: Callable[..., Case], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert state.folder(case({"AITBC_STATE_DIR": str(tmp_path / "file")})).result == "failed"
    missing = state.folder(case({"AITBC_STATE_DIR": str(tmp_path / "none")}))
    assert (missing.result, missing.fix) == ("skipped", "aitbc serve")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("check", "name"), [(state.admin_key, "admin.key"), (state.secrets, "node.key")])
def test_a_secret_that_others_can_read_is_closed_by_its_fix(
    case: Callable[..., Case], folder: Path, check: Callable[[Case], Finding], name: str
) -> None:
    (folder / name).chmod(0o644)
    found = check(case())
    assert (found.result, found.fix) == ("failed", f"chmod 600 {folder / name}")
    type_in(found.fix)
    assert check(case()).result == "ok"


def test_an_admin_key_that_is_missing_or_none_is_told(case: Callable[..., Case], folder: Path) -> None:
    (folder / "admin.key").write_text("hello\n")
    assert state.admin_key(case()).fix == f"rm {folder / 'admin.key'}; aitbc serve"
    (folder / "admin.key").unlink()
    assert state.admin_key(case()).result == "warning"


def test_a_stale_server_file_is_named_and_removed_by_its_fix(case: Callable[..., Case], folder: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    told = {"url": "http://127.0.0.1:9", "pid": gone.pid}
    (folder / "server.json").write_text(json.dumps(told))
    found = state.server_file(case())
    assert found.result == "failed" and found.fix == f"rm {folder / 'server.json'}; aitbc serve"
    type_in(str(found.fix).removesuffix("; aitbc serve"))
    assert state.server_file(case()).result == "skipped"
    with subprocess.Popen(["sleep", "9"]) as innocent:
        (folder / "server.json").write_text(json.dumps({**told, "pid": innocent.pid}))
        found = state.server_file(case())
        assert found.result == "failed" and "does not listen at http://127.0.0.1:9" in found.message
        answer = rows_of(case(), "server")["server"]
        assert (answer["result"], answer["fix"]) == ("failed", "aitbc serve"), "nobody innocent is to be killed"
        innocent.kill()
    (folder / "server.json").write_text("[]")
    assert state.server_file(case()).result == "failed"


def test_whoever_holds_the_database_without_being_the_server_is_named(case: Callable[..., Case], folder: Path) -> None:
    assert state.lock(case()).result == "ok"
    (folder / "postgres").mkdir()
    path = folder / "postgres" / "lock"
    path.write_text("4000000\n")
    assert "left behind by process 4000000" in state.lock(case()).message
    with subprocess.Popen(["flock", "--no-fork", str(path), "sleep", "60"]) as holder:
        for _ in range(1500):
            found = state.lock(case())
            if found.result == "warning":
                break
            time.sleep(0.02)
        holder.kill()
    assert (found.result, found.fix) == ("warning", f"ps -fp {holder.pid} && kill {holder.pid}")


def test_data_of_another_version_or_elsewhere_is_named(case: Callable[..., Case], folder: Path) -> None:
    assert state.data(case()).result == "skipped"
    cluster = folder / "postgres" / "data"
    cluster.mkdir(parents=True)
    assert "is no cluster" in state.data(case()).message
    (cluster / "PG_VERSION").write_text("16\n")
    old = state.data(case())
    assert old.result == "failed" and f"mv {cluster} {cluster}.16" in str(old.fix)
    (cluster / "PG_VERSION").write_text("18\n")
    assert state.data(case()).result == "ok"
    (folder / "postgres" / "data-is-elsewhere.txt").write_text("/var/lib/aitbc-postgres/gone\n")
    assert "which is not there" in state.data(case()).message


def test_the_program_of_the_database_runs_as_this_user(case: Callable[..., Case]) -> None:
    found = programs.postgres(case())
    assert found.result == "ok" and "PostgreSQL" in found.message
    own = programs.postgres(case({"AITBC_DATABASE__URL": "postgresql://me@127.0.0.1:1/aitbc"}))
    assert own.result == "skipped"


def test_a_database_of_ones_own_that_does_not_answer_is_named(case: Callable[..., Case]) -> None:
    own = {"AITBC_DATABASE__URL": f"postgresql://me@127.0.0.1:{free_port()}/aitbc"}
    found = rows_of(case(own), "database", "migrations")
    assert found["database"]["result"] == "failed"
    assert found["database"]["fix"].endswith("or correct database.url (AITBC_DATABASE__URL)")
    assert found["migrations"]["result"] == "skipped"


AS_NOBODY = """
import json, os, sys
from aitbc_cli.doctor.case import Case
from aitbc_cli.doctor.rounds import CHECKS, examine
look = lambda: examine(Case(environ={"HOME": "/", "AITBC_STATE_DIR": sys.argv[1]}), CHECKS)
look()  # as root, so that everything is loaded
os.setgroups([]), os.setgid(65534), os.setuid(65534)
print(json.dumps(look()))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_bus_that_is_away_is_a_warning_and_one_that_carries_is_not(case: Callable[..., Case], tmp_path: Path) -> None:
    assert rows_of(case(), "bus")["bus"]["result"] == "ok"
    nats = NatsServer(tmp_path / "nats")
    there = {"AITBC_NATS_URL": nats.url}
    away = rows_of(case(there), "bus")["bus"]
    assert away["result"] == "warning"
    assert "no server answers" in away["message"]
    nats.start()
    try:
        assert rows_of(case(there), "bus")["bus"]["result"] == "ok"
    finally:
        nats.stop()


@only_in_full
def test_another_user_is_told_whose_the_installation_is(folder: Path) -> None:
    (folder / "miners").mkdir(mode=0o700)
    told = subprocess.run([sys.executable, "-c", AS_NOBODY, str(folder)], capture_output=True, text=True, check=True)
    rows = {row["check"]: row for row in json.loads(told.stdout)}
    assert (rows["state-folder"]["result"], rows["state-folder"]["fix"]) == ("failed", "sudo -u root aitbc doctor")
    for name in ("admin-key", "secrets", "lock", "data", "miner"):
        assert rows[name]["result"] == "skipped" and "is not for this user" in rows[name]["message"]
    assert not [row for row in rows.values() if "the check broke" in row["message"]]


# The port, and miners ------------------------------------------------------------------------------------------------


def test_a_taken_port_is_named_with_its_holder(case: Callable[..., Case]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        taken = other.getsockname()[1]
        found = server.port(case({"AITBC_SERVER__PORT": str(taken)}))
        assert found.result == "failed" and f"(pid {os.getpid()})" in found.message
        assert str(found.fix).startswith("aitbc serve --port 0")
    assert server.port(case({"AITBC_SERVER__PORT": str(taken)})).result == "ok"


def test_a_miners_folder_is_examined_one_by_one(case: Callable[..., Case], folder: Path) -> None:
    assert miners.examine(case())[0].result == "skipped"
    home = folder / "miners" / "attic room"
    home.mkdir(parents=True, mode=0o700)
    start = "aitbc miner run --name 'attic room'"

    def look() -> Finding:
        (found,) = miners.examine(case({"AITBC_URL": f"http://127.0.0.1:{free_port()}"}))
        assert found.about == "attic room"
        return found

    assert (look().result, look().fix) == ("warning", start)
    home.chmod(0o755)
    opened = look()
    assert opened.result == "failed"
    type_in(opened.fix)
    credentials = home / "credentials.json"
    credentials.touch(0o600)
    assert look().fix == f"rm '{credentials}'; {start}"
    credentials.write_text(json.dumps({"miner": "mnr_1", "url": "http://127.0.0.1:1", "api_key": "x"}))
    assert "miner.key is not there" in look().message
    (home / "miner.key").touch(0o600)
    assert look().fix == f"{start} --url http://127.0.0.1:1"


def test_a_url_that_leads_nowhere_is_named() -> None:
    flags = Flags(url="http://no-such-host.invalid")
    found = rows_of(Case(environ={"HOME": "/nonexistent", "AITBC_STATE_DIR": "/nonexistent"}, flags=flags), "server")
    assert (found["server"]["result"], found["server"]["fix"]) == ("failed", "check the URL")
