"""The embedded PostgreSQL outlives crashes, never outlives us, and hurts nobody."""

import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from aitbc.server.postgres import process
from aitbc.server.postgres.account import Account
from aitbc.server.postgres.embedded import EmbeddedPostgresError, binaries
from aitbc.server.postgres.process import child_setup
from tests.scale import scaled
from tests.server.postgres.small_cluster import (
    ROOT,
    Server,
    first_line,
    lives,
    only_root,
    program,
    put_copy,
    sql,
    stranger,
    wait_until,
)

DEATHS = [
    (who, how) for who in ("an ordinary user", "ourselves") for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
]
pytest_plugins = ("tests.server.postgres.small_cluster_fixtures",)

# Our death -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("who", "how"), scaled(DEATHS[::5], DEATHS))
def test_the_server_does_not_outlive_us(
    server: Server, ground: Path, made: Path, how: signal.Signals, who: str
) -> None:
    uid = os.geteuid()
    if who == "an ordinary user":
        if not ROOT:
            pytest.skip("needs root, who can become somebody else")
        uid = stranger().uid
        put_copy(made, ground / "mine" / "db")
        subprocess.run(["chown", "-R", str(uid), str(ground / "mine")], check=True)
    successor = server(ground / "mine" / "db")
    with program(ground / "mine" / "db", uid) as running:
        pid = int(first_line(running).split()[0])
        running.send_signal(how)
        running.wait()
        successor.start()  # at once, while the old server may still be closing
        assert successor.pid != pid
        assert not lives(pid)


def test_a_child_whose_parent_is_already_dead_does_not_start() -> None:
    prepare = child_setup(Account("me", os.geteuid(), os.getegid()))  # made by this process, called by a grandchild
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild == 0:
            prepare()
            os._exit(0)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 70


def test_a_key_pressed_in_our_terminal_does_not_reach_the_server(server: Server) -> None:
    one = server()
    one.start()
    assert one.pid is not None
    assert os.getsid(one.pid) == one.pid != os.getsid(0)


def test_a_fork_of_ours_does_not_end_the_server(server: Server) -> None:
    one = server()
    address = one.start()
    child = os.fork()
    if child == 0:
        one.stop()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert one.running
    assert sql(address, "SELECT 1") == "1"


def test_it_cannot_be_started_from_a_thread_that_may_end_before_us(server: Server) -> None:
    one, said = server(), []

    def start() -> None:
        try:
            one.start()
        except EmbeddedPostgresError as error:
            said.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in said[0]


# Crashes and leftovers -----------------------------------------------------------------------------------------------


def test_after_a_crash_a_restart_recovers_what_was_committed(server: Server) -> None:
    one = server()
    address = one.start()
    sql(address, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
    crashed = one.pid
    assert crashed is not None
    os.kill(crashed, signal.SIGKILL)
    wait_until(lambda: one.poll() is not None)
    assert one.poll() == -signal.SIGKILL
    assert not one.running and one.pid is None
    assert one.restart() == address
    assert one.pid != crashed
    assert sql(address, "SELECT count(*) FROM kept") == "1000"


def test_a_busy_child_of_a_crashed_server_does_not_keep_it_down(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "ORPHAN_SECONDS", 0.3)
    one = server()
    address = one.start()
    endless = "DO $$ BEGIN LOOP END LOOP; END $$"
    command: list[str | Path] = [binaries() / "psql", "-h", address.host, "-U", address.user, "-c", endless, "aitbc"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL):
        busy = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'"
        wait_until(lambda: sql(address, busy) != "")
        orphan = int(sql(address, busy))
        try:
            assert one.pid is not None
            os.kill(one.pid, signal.SIGKILL)
            wait_until(lambda: one.poll() is not None)
            assert sql(one.restart(), "SELECT 1") == "1"
            assert not lives(orphan)
        finally:
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)


@pytest.mark.parametrize("whose", ["a live process", "a zombie", "nobody"])
def test_a_stale_pid_file_is_not_believed_and_nobody_is_hurt(server: Server, ground: Path, whose: str) -> None:
    one = server()
    address = one.start()
    data, run = ground / "db" / "data", ground / "db" / "run"
    left = (data / "postmaster.pid").read_text().splitlines()
    one.stop()
    owner = data.stat()
    # Of the server's own account: PostgreSQL itself sees through any other.
    me = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if ROOT else {}
    command = ["sleep", "60"] if whose == "a live process" else ["true"]
    with subprocess.Popen(command, **me) as innocent:  # type: ignore[call-overload]
        if whose == "nobody":
            innocent.wait()
        elif whose == "a zombie":
            wait_until(lambda: not lives(innocent.pid))
        run.mkdir(mode=0o700)
        os.chown(run, owner.st_uid, owner.st_gid)
        left[0] = str(innocent.pid)
        for path in (data / "postmaster.pid", run / ".s.PGSQL.5432.lock"):  # both are believed
            path.write_text("\n".join(left) + "\n")
            os.chown(path, owner.st_uid, owner.st_gid)
        assert one.start() == address
        one.stop()
        if whose == "a live process":
            assert innocent.poll() is None
        innocent.kill()


def test_the_second_on_one_folder_is_told_who_is_the_first(server: Server, ground: Path) -> None:
    first = server()
    address = first.start()
    with pytest.raises(EmbeddedPostgresError, match=rf"in use by another AITBC \(process {os.getpid()}\)"):
        server().start()
    assert sql(address, "SELECT 1") == "1"
    with program(ground / "db", os.geteuid()) as other:
        assert f"(process {os.getpid()})" in first_line(other)
    first.stop()
    assert server().start() == address


def test_a_server_started_by_hand_is_left_alone(server: Server, ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PREDECESSOR_SECONDS", 0.3)
    monkeypatch.setattr(process, "ORPHAN_SECONDS", 0.1)
    one = server()
    data = ground / "db" / "data"
    owner = data.stat()
    settings = ["-c", "unix_socket_directories=.", "-c", "listen_addresses="]
    me = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if ROOT else {}
    by_hand = subprocess.Popen(  # type: ignore[call-overload]
        [binaries() / "postgres", "-D", data, *settings], stderr=subprocess.DEVNULL, cwd="/", **me
    )
    try:
        wait_until(lambda: (data / "postmaster.pid").exists() and "ready" in (data / "postmaster.pid").read_text())
        with pytest.raises(EmbeddedPostgresError, match=rf"process {by_hand.pid}\) works on"):
            one.start()
        assert by_hand.poll() is None
    finally:
        by_hand.send_signal(signal.SIGINT)
        by_hand.wait()


def test_an_initdb_killed_half_way_is_begun_again(server: Server, ground: Path) -> None:
    with program(ground / "db", os.geteuid()) as running:
        wait_until(lambda: any((ground / "db").glob("data.new-*/global")))
        running.kill()
        running.wait()
    assert not (ground / "db" / "data").exists()
    (ground / "db" / "data.new-0").mkdir()  # initdb tidies up when it is told of our death, unless it is killed as well
    (ground / "db" / "data.new-0" / "PG_VERSION").write_text("18\n")
    assert sql(server(fresh=True).start(), "SELECT 1") == "1"
    assert not any((ground / "db").glob("data.new*"))


def test_data_of_another_major_version_is_left_alone(server: Server, ground: Path) -> None:
    one = server(fresh=True)
    (ground / "db" / "data").mkdir(parents=True)
    (ground / "db" / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match="written by PostgreSQL 16, and this AITBC brings 18"):
        one.start()
    (ground / "db" / "data" / "PG_VERSION").unlink()
    with pytest.raises(EmbeddedPostgresError, match="not a PostgreSQL cluster"):
        one.start()


def test_a_file_in_the_place_of_the_folder_is_an_error_that_says_so(server: Server, ground: Path) -> None:
    (ground / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="cannot use .*file"):  # noqa: RUF043
        server(ground / "file" / "db", fresh=True).start()


@only_root
def test_a_full_disk_is_an_error_that_says_so(server: Server, ground: Path) -> None:
    disk = ground / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=755", "tmpfs", disk], check=False).returncode != 0:
        pytest.skip("may not mount a small disk here")
    try:
        with pytest.raises(EmbeddedPostgresError, match="No space left on device"):
            server(disk / "db", fresh=True).start()
        assert not (disk / "db" / "data").exists()
    finally:
        subprocess.run(["umount", disk], check=True)
