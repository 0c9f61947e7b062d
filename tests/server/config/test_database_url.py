"""Database URLs: libpq's words and meanings, a refusal for anything else, and never a piece of a password in it."""

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from aitbc.kernel.database.target import SSL_MODES, Target
from aitbc.kernel.primitives.errors import ConfigError
from aitbc.server.config.database_url import target_of
from aitbc.server.maintenance.database import client_program
from aitbc.server.postgres.account import choose_account
from tests.server.maintenance.test_own_database import DEBIAN, Foreign, start_foreign
from tests.server.postgres.small_cluster import wait_until
from tests.server.runtime.test_serve import free_port


def refusal(url: str) -> str:
    """The message with which a URL is refused."""
    with pytest.raises(ConfigError) as refused:
        target_of(url)
    assert refused.value.exit_code == 78
    return refused.value.message


@pytest.mark.parametrize("mode", ["requre", "Require", "verify_full", "REQUIRE", "", "true", "no", "verify-all"])
def test_a_word_that_is_no_sslmode_is_refused_and_the_words_are_named(mode: str) -> None:
    said = refusal(f"postgresql://u:hunter2@db.example/x?sslmode={mode}")
    assert all(word in said for word in SSL_MODES)
    assert "hunter2" not in said


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-full"])
def test_each_word_of_libpq_is_kept(mode: str) -> None:
    assert target_of(f"postgres://u@db.example/x?sslmode={mode}").sslmode == mode


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://u@db.example/x", "verify-full"),
        ("postgresql://u@127.0.0.2/x", "prefer"),
        ("postgresql://u@[::1]/x", "prefer"),
        ("postgresql://u@/x?host=/run/postgresql", "prefer"),
        ("postgresql://u@localhost/x?host=db.example", "verify-full"),
        ("postgresql://u@db.example/x?ssl=true", "require"),
    ],
)
def test_without_a_word_only_this_machine_is_reached_without_tls(url: str, mode: str) -> None:
    assert target_of(url).sslmode == mode


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "password", "database"),
    [
        ("postgres://u:p@h/d", "h", 5432, "u", "p", "d"),
        ("postgresql://u:p@[2001:db8::1]:6000/d?sslmode=disable", "2001:db8::1", 6000, "u", "p", "d"),
        ("postgresql://u@/d?host=/run/postgresql&port=6000", "/run/postgresql", 6000, "u", None, "d"),
        ("postgresql://u@%2Frun%2Fpostgresql/d", "/run/postgresql", 5432, "u", None, "d"),
        ("postgresql://h/d?user=u&password=p%26q", "h", 5432, "u", "p&q", "d"),
        ("postgresql:///?dbname=d&host=h", "h", 5432, "postgres", None, "d"),
        ("postgresql://u:%40%2F%3A%3F%23%25%5B%20+@h/d", "h", 5432, "u", "@/:?#%[ +", "d"),
        ("postgresql://u:a:b[c?d#e@h/d", "h", 5432, "u", "a:b[c?d#e", "d"),
        ("postgresql+asyncpg://u:p@h/d%20e", "h", 5432, "u", "p", "d e"),
    ],
)
def test_parts_are_read_as_libpq_reads_them(
    url: str, host: str, port: int, user: str, password: str | None, database: str
) -> None:
    read = target_of(url)
    assert (read.host, read.port, read.user, read.password, read.database) == (host, port, user, password, database)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://odd:hunter2/xyzzy@127.0.0.1:1/x",
        "postgresql://odd:hunter2@xyzzy@127.0.0.1:1/x",
        "postgresql://odd:hunter2/xyzzy?plugh=1@127.0.0.1/x",
        "postgresql://odd:hunter2@xyzzy?plugh=1@127.0.0.1/x",
        "postgresql://odd:hunter2%xyzzy@127.0.0.1/x",
        "postgresql://odd:hunter2/xyzzy",
        "postgresql://odd:[hunter2]/xyzzy@h/d",
    ],
)
def test_a_raw_reserved_letter_in_a_password_is_explained_and_nothing_of_it_printed(url: str) -> None:
    said = refusal(url)
    assert "percent-encoded" in said and "%2F" in said
    assert not any(word in said for word in ("hunter2", "xyzzy", "plugh", "odd"))


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("postgresql://u@a,b/x", "more than one host"),
        ("postgresql://u@a:5432,b:5433/x", "more than one host"),
        ("postgresql://u@/x?host=a,b", "more than one host"),
        ("postgresql://u@h/x?target_session_attrs=standby", "any, primary, read-write"),
        ("postgresql://u@h/x?connect_timeout=3", "connect_timeout"),
        ("postgresql://u@h/x?channel_binding=require", "channel_binding"),
        ("postgresql://u@h/x?sslmode=require&sslmode=disable", "once"),
        ("postgresql://u@h/x?sslmode", "once"),
        ("postgresql://u@h:99999/x", "65535"),
        ("postgresql://u@h/", "database"),
        ("mysql://u@h/x", "postgresql://"),
        ("postgresql://u@h/x?sslmode=prefer&sslrootcert=/x", "sslrootcert"),
        ("postgresql://u@h/x?sslmode=disable&sslcert=/x", "sslcert"),
        ("postgresql://u@h/x?sslmode=require&sslkey=/x", "sslcert"),
        ("postgresql://u@h/x?sslrootcert=/nowhere/ca.pem", "sslrootcert"),
        ("postgresql://u@h/x?sslmode=verify-ca&sslrootcert=system", "verify-full"),
        ("postgresql://u@h/x?sslmode=require&sslcrl=/nowhere", "sslcrl"),
        ("postgresql://u@h/x?sslmode=verify-full&sslcert=/nowhere", "sslcert"),
    ],
)
def test_what_is_not_done_is_refused_by_its_name(
    url: str, word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert word in refusal(url)


def test_verify_ca_needs_a_file_of_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "sslrootcert" in refusal("postgresql://u@h/x?sslmode=verify-ca")
    assert target_of("postgresql://u@h/x?sslmode=verify-full").roots() == "system"


# With a server that has no TLS, and then has it ---------------------------------------------------------------------


def openssl(folder: Path, *words: str) -> None:
    """Run openssl there."""
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Foreign, Path]]:
    """A server, and the folder of its certificate for `localhost`, of its authority, and of another authority."""
    if shutil.which("openssl") is None:
        pytest.skip("this machine has no openssl (Debian: apt-get install openssl)")
    if not DEBIAN.is_dir():  # the programs of the wheel have no TLS
        pytest.skip("this machine has no PostgreSQL 15 (Debian: apt-get install postgresql-15)")
    account = choose_account(None, Path("/nonexistent"))
    ground = Path(subprocess.check_output(["mktemp", "-d", "/tmp/aitbc-test-XXXXXX"], text=True).strip())
    ground.chmod(0o755)
    make = ("req", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        openssl(ground, *make, "-x509", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl(ground, *make[:-2], "-subj", "/CN=db", "-keyout", "db.key", "-out", "db.csr")
    (ground / "names").write_text("subjectAltName=DNS:localhost")
    signed = ("x509", "-req", "-in", "db.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl(ground, *signed, "-extfile", "names", "-out", "db.pem")
    os.chown(ground / "db.key", account.uid, account.gid)
    server = start_foreign(DEBIAN, ground, account, port := free_port())
    try:
        yield Foreign(DEBIAN, port), ground
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        shutil.rmtree(ground)


async def is_encrypted(target: Target) -> bool:
    """Whether a connection to this target is."""
    connection = await asyncpg.connect(**target.connect_arguments(application="tests", statement_seconds=5))
    try:
        return bool(await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    finally:
        await connection.close()


def connected(server: Foreign, query: str, host: str = "localhost") -> bool:
    """Whether the connection of this URL is encrypted; raises what stopped it."""
    return asyncio.run(
        is_encrypted(target_of(f"postgresql://dba:word%20of%20dba@{host}:{server.port}/postgres?{query}"))
    )


def with_tls(server: Foreign, folder: Path) -> None:
    """The server offers TLS from now on."""
    for statement in (f"ssl_cert_file = '{folder}/db.pem'", f"ssl_key_file = '{folder}/db.key'", "ssl = on"):
        server.sql(f"ALTER SYSTEM SET {statement}")
    server.sql("SELECT pg_reload_conf()")
    wait_until(lambda: connected(server, "sslmode=prefer"))


def without_tls(server: Foreign) -> None:
    """The server offers no TLS from now on."""
    server.sql("ALTER SYSTEM SET ssl = off")
    server.sql("SELECT pg_reload_conf()")
    wait_until(lambda: not connected(server, "sslmode=prefer"))


def test_each_mode_connects_and_refuses_as_it_does_in_libpq(foreign: tuple[Foreign, Path], monkeypatch: Any) -> None:
    server, folder = foreign
    without_tls(server)
    monkeypatch.setenv("HOME", str(folder))
    plain = {mode: connected(server, f"sslmode={mode}") for mode in ("disable", "allow", "prefer")}
    assert plain == {"disable": False, "allow": False, "prefer": False}
    for query in ("sslmode=require", f"sslmode=verify-full&sslrootcert={folder}/ca.pem"):
        with pytest.raises(ConnectionError, match="rejected SSL"):
            connected(server, query)
    with_tls(server, folder)
    assert [connected(server, f"sslmode={mode}") for mode in ("disable", "allow", "prefer", "require")] == [
        *(False, False, True, True)
    ]
    ours, other = f"sslrootcert={folder}/ca.pem", f"sslrootcert={folder}/other.pem"
    assert connected(server, f"sslmode=verify-full&{ours}")
    assert connected(server, f"sslmode=verify-ca&{ours}", host="127.0.0.1")
    for query, host in (
        (f"sslmode=verify-full&{ours}", "127.0.0.1"),  # the certificate has another name
        (f"sslmode=verify-full&{other}", "localhost"),
        (f"sslmode=verify-ca&{other}", "localhost"),
        (f"sslmode=require&{other}", "localhost"),  # libpq: with a file of certificates it verifies
        ("sslmode=verify-full&sslrootcert=system", "localhost"),
    ):
        with pytest.raises(ssl.SSLCertVerificationError):
            connected(server, query, host)
    (folder / ".postgresql").mkdir()
    shutil.copy(folder / "other.pem", folder / ".postgresql/root.crt")
    with pytest.raises(ssl.SSLCertVerificationError):
        connected(server, "sslmode=require")


def test_programs_of_postgresql_connect_with_the_same_tls(foreign: tuple[Foreign, Path], monkeypatch: Any) -> None:
    server, folder = foreign
    with_tls(server, folder)
    monkeypatch.setenv("HOME", str(folder / "nowhere"))
    query = f"sslmode=verify-full&sslrootcert={folder}/ca.pem"
    target = target_of(f"postgresql://dba:word%20of%20dba@localhost:{server.port}/postgres?{query}")
    command: list[str | Path] = [
        server.programs / "psql",
        "-h",
        target.host,
        "-p",
        str(target.port),
        "-U",
        "dba",
        "-XAtc",
    ]
    command += ["SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", "postgres"]
    said = subprocess.run(
        command, env={**os.environ, **target.environment()}, capture_output=True, text=True, check=False
    )
    assert said.stdout.strip() == "t", said.stderr


def test_without_programs_that_have_tls_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="postgresql-client"):
        client_program("pg_dump", target_of("postgresql://u@db.example/x"))
    assert client_program("psql", target_of("postgresql://u@127.0.0.1/x")).endswith("/psql")
