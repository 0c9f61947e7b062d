"""The embedded PostgreSQL: a start, a stop, who may connect, and odd paths."""

import os
import socket
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from aitbc.server.postgres import log_file
from aitbc.server.postgres.embedded import Address, EmbeddedPostgres, EmbeddedPostgresError, binaries
from tests.scale import scaled
from tests.server.postgres.small_cluster import (
    FAST,
    Server,
    only_root,
    sql,
    stranger,
    wait_until,
)

pytest_plugins = ("tests.server.postgres.small_cluster_fixtures",)

# A start and a stop --------------------------------------------------------------------------------------------------


def test_an_empty_folder_becomes_a_cluster_with_the_database_and_its_owner(server: Server, ground: Path) -> None:
    one = server(ground / "new" / "db", fresh=True)
    address = one.start()
    assert (address.user, address.database) == ("aitbc_owner", "aitbc")
    assert sql(address, "SELECT current_user, current_database(), usesuper FROM pg_user") == "aitbc_owner|aitbc|t"
    assert one.running and one.pid is not None and one.poll() is None


def test_the_cluster_has_checksums_and_utf8_and_tells_time_in_utc(server: Server) -> None:
    address = server().start()
    asked = "data_checksums server_encoding timezone wal_compression max_wal_size max_connections log_statement"
    shown = [sql(address, f"SHOW {name}") for name in asked.split()]
    assert shown == ["on", "UTF8", "UTC", "pglz", "1GB", "100", "none"]
    assert sql(address, "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'aitbc'") == "b|C.UTF-8"
    assert sql(address, "SELECT upper('straße ä')") == "STRASSE Ä" or sql(address, "SELECT upper('ä')") == "Ä"


def test_it_is_durable_unless_told_otherwise(server: Server) -> None:
    address = server(settings={}).start()
    assert [sql(address, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")] == ["on"] * 3
    assert sql(address, "SHOW shared_buffers") == "128MB"


def test_starting_a_running_server_changes_nothing(server: Server) -> None:
    one = server()
    address, pid = one.start(), one.pid
    assert one.start() == address
    assert one.pid == pid


def test_a_warm_start_makes_no_cluster_and_a_stop_is_clean(server: Server, ground: Path) -> None:
    one = server(settings={})
    made = set()
    for _ in range(3):
        one.start()
        one.stop()
        made.add((ground / "db" / "data" / "PG_VERSION").stat().st_ctime_ns)
    assert len(made) == 1
    said = (ground / "db" / "postgres.log").read_text()
    assert said.count("database system was shut down") == 3 and "not properly shut down" not in said


def test_a_stop_leaves_nothing_but_data_and_log(server: Server, ground: Path) -> None:
    one = server()
    one.start()
    one.stop()
    assert sorted(path.name for path in (ground / "db").iterdir()) == ["data", "postgres.log"]
    assert not (ground / "db" / "data" / "postmaster.pid").exists()
    assert not one.running and one.pid is None and one.poll() is None
    one.stop()


def test_a_client_does_not_hold_up_a_stop(server: Server) -> None:
    one = server()
    address = one.start()
    command: list[str | Path] = [
        binaries() / "psql",
        "-h",
        address.host,
        "-U",
        address.user,
        "-c",
        "SELECT pg_sleep(60)",
        "aitbc",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as client:
        wait_until(lambda: "pg_sleep(60)" in sql(address, "SELECT query FROM pg_stat_activity WHERE state = 'active'"))
        began = time.monotonic()
        one.stop()
        assert time.monotonic() - began < 30
        assert client.wait(30) != 0


def test_data_outlives_a_stop_and_a_dropped_database_is_made_again(server: Server) -> None:
    one = server()
    address = one.start()
    sql(address, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 7 AS number")
    one.stop()
    assert sql(one.start(), "SELECT number FROM kept") == "7"
    sql(Address(address.host, address.port, address.user, "postgres"), "DROP DATABASE aitbc")
    one.stop()
    assert sql(one.start(), "SELECT count(*) FROM pg_class WHERE relname = 'kept'") == "0"


def test_discarding_leaves_nothing(server: Server, ground: Path) -> None:
    one = server()
    one.start()
    one.discard()
    assert list((ground / "db").iterdir()) == []


def test_a_long_log_becomes_the_previous_one_even_while_running(
    server: Server, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "LOG_BYTES", 2000)
    one = server()
    address = one.start()
    log = ground / "db" / "postgres.log"
    while log.stat().st_size <= 2000:
        with suppress(subprocess.CalledProcessError):
            sql(address, f"SELECT {'x' * 500}")
    one.poll()
    assert log.stat().st_size == 0
    assert log.with_name("postgres.log.1").stat().st_size > 2000
    with suppress(subprocess.CalledProcessError):
        sql(address, "SELECT nothing_like_this")
    assert b"nothing_like_this" in log.read_bytes()
    assert b"\0" not in log.read_bytes()


def test_the_users_own_postgres_variables_do_not_matter(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "PGOPTIONS": "-c x=y", "PGHOST": "nowhere"}.items():
        monkeypatch.setenv(name, value)
    one = server()
    assert sql(one.start(), "SELECT 1") == "1"
    assert b"PG" not in Path(f"/proc/{one.pid}/environ").read_bytes()


@pytest.mark.parametrize("name", ["unix_socket_directories", "hba_file", "data_directory", "fsync=off -c x", ""])
def test_a_setting_that_is_the_supervisors_business_is_refused(ground: Path, name: str) -> None:
    with pytest.raises(EmbeddedPostgresError, match="cannot be set"):
        EmbeddedPostgres(ground, settings={name: "x"})


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "٣"])
def test_a_port_that_is_none_is_refused(ground: Path, port: str) -> None:
    with pytest.raises(EmbeddedPostgresError, match="port"):
        EmbeddedPostgres(ground, settings={"port": port})


def test_a_start_that_postgres_refuses_says_why_and_lets_go(server: Server, ground: Path) -> None:
    one = server(settings={"shared_buffers": "no size"})
    with pytest.raises(EmbeddedPostgresError, match=r"(?s)exit code 1.*shared_buffers"):
        one.start()
    assert not (ground / "db" / "lock").exists()
    assert server().start().database == "aitbc"


# Who may connect -----------------------------------------------------------------------------------------------------


def test_it_has_a_private_socket_and_no_port(server: Server) -> None:
    one = server()
    address = one.start()
    assert stat.S_IMODE(Path(address.host).stat().st_mode) == 0o700
    assert sql(address, "SHOW listen_addresses") == ""
    assert sql(address, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'reject'") == "1"
    listening = Path(f"/proc/{one.pid}/net/tcp").read_text().splitlines()[1:]
    mine = {str(file.readlink()) for file in Path(f"/proc/{one.pid}/fd").iterdir()}
    assert not [line for line in listening if f"socket:[{line.split()[9]}]" in mine]


def test_whoever_comes_by_tcp_is_turned_away(server: Server) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server(settings={**FAST, "listen_addresses": "127.0.0.1", "port": str(port)}).start()
    command: list[str | Path] = [
        binaries() / "psql",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-U",
        "aitbc_owner",
        "-c",
        "SELECT 1",
        "aitbc",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, env={}, check=False)
    assert answer.returncode == 2
    assert "pg_hba.conf rejects connection" in answer.stderr


@only_root
def test_another_account_of_the_machine_cannot_connect(server: Server) -> None:
    address = server().start()
    other = stranger()
    command: list[str | Path] = [binaries() / "psql", "-h", address.host, "-U", address.user, "-c", "SELECT 1", "aitbc"]
    answer = subprocess.run(
        command, capture_output=True, text=True, env={}, check=False, user=other.uid, group=other.gid, extra_groups=[]
    )
    assert answer.returncode == 2
    assert "Permission denied" in answer.stderr


# Odd paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["with a space", *scaled([], ['it\'s "quoted"', "größe 数据"]), "-D $HOME"])
def test_an_odd_path_works(server: Server, ground: Path, name: str) -> None:
    address = server(ground / name).start()
    assert address.host == str(ground / name / "run")
    assert sql(address, "SELECT 1") == "1"


def test_an_odd_path_works_from_the_very_beginning(server: Server, ground: Path) -> None:
    assert sql(server(ground / "the first 'ä\" time", fresh=True).start(), "SELECT 1") == "1"


def long_folder(ground: Path) -> Path:
    """A folder whose sockets would have too long a name."""
    return ground / ("deep" * 15) / ("deeper" * 10)


def test_a_long_path_gets_a_short_private_socket_folder(server: Server, ground: Path) -> None:
    one = server(long_folder(ground))
    address = one.start()
    assert len(address.host) < 90
    assert stat.S_IMODE(os.lstat(address.host).st_mode) == 0o700
    assert sql(address, "SELECT 1") == "1"
    one.stop()
    assert not Path(address.host).exists()
    assert one.start() == address, "the name depends on the folder alone"


def test_a_path_with_a_comma_gets_a_socket_folder_without(
    server: Server, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ground / "c,d").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(ground / "c,d"))
    address = server(ground / "a, b").start()
    assert "," not in address.host
    assert sql(address, "SELECT 1") == "1"


def test_the_short_folder_lies_in_the_users_runtime_folder_if_there_is_one(
    server: Server, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ground / "runtime").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(ground / "runtime"))
    assert Path(server(long_folder(ground)).start().host).parent == ground / "runtime"


@pytest.mark.parametrize("trap", ["a link", "an open folder", "a file"])
def test_a_short_folder_that_somebody_else_made_is_not_used(
    server: Server, ground: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(ground))
    one = server(long_folder(ground))
    there = Path(one.start().host)
    one.stop()
    if trap == "a link":
        (ground / "elsewhere").mkdir(mode=0o700)
        there.symlink_to(ground / "elsewhere")
    elif trap == "an open folder":
        there.mkdir()
        there.chmod(0o777)
    else:
        there.touch()
    owner = (one.home or ground).joinpath("data").stat()  # as if the server's own account had been tricked into it
    os.chown(there, owner.st_uid, owner.st_gid)
    with pytest.raises(EmbeddedPostgresError, match="somebody else made it"):
        one.start()
    assert os.path.lexists(there), "it is not ours to remove"


@only_root
def test_a_private_folder_of_another_account_is_not_used(
    server: Server, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(ground))
    one = server(long_folder(ground))
    there = Path(one.start().host)
    one.stop()
    there.mkdir(mode=0o700)
    os.chown(there, stranger().uid, -1)
    with pytest.raises(EmbeddedPostgresError, match="somebody else made it"):
        one.start()
