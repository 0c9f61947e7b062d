"""Which server is asked and with which key: flag before environment before profile before the local server."""

import json
from pathlib import Path

import pytest

from aitbc_cli.exits import Stop
from aitbc_cli.settings import DEFAULT_URL, Flags, Where, find, signed_in, state_folder

PROFILES = """
profile = "work"
[profiles.work]
url = "https://work.example.org"
api_key = "key-of-work"
[profiles.home]
url = "https://home.example.org/"
[profiles.keyless]
api_key = "key-of-keyless"
"""


@pytest.fixture
def places(home: Path) -> dict[str, str]:
    """An environment with a home that has nothing in it."""
    return {"HOME": str(home), "AITBC_STATE_DIR": str(home / "state")}


def user_file(environ: dict[str, str], text: str, mode: int = 0o600) -> Path:
    """Write the user's file."""
    file = Path(environ["HOME"]) / ".config/aitbc/config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


def local_server(environ: dict[str, str], url: str = "http://127.0.0.1:9000") -> None:
    """What a server that runs here leaves behind."""
    state = Path(environ["AITBC_STATE_DIR"])
    state.mkdir()
    (state / "server.json").write_text(json.dumps({"url": url, "pid": 1}))
    (state / "admin.key").write_text("key-of-admin\n")
    (state / "admin.key").chmod(0o600)


def private(folder: Path, text: str, mode: int = 0o600) -> Path:
    """A file with a key."""
    file = folder / "some.key"
    file.write_text(text)
    file.chmod(mode)
    return file


def refused(flags: Flags, environ: dict[str, str]) -> Stop:
    """Why it cannot be used."""
    with pytest.raises(Stop) as told:
        find(flags, environ)
    return told.value


def test_with_nothing_said_it_is_the_usual_address_without_a_key(places: dict[str, str]) -> None:
    where = find(Flags(), places)
    assert (where.url, where.url_origin, where.key, where.key_origin) == (DEFAULT_URL, "default", None, "none")
    with pytest.raises(Stop) as told:
        signed_in(where)
    assert told.value.exit_code == 4


def test_each_source_of_a_url_gives_way_to_a_stronger_one(places: dict[str, str]) -> None:
    local_server(places)
    assert find(Flags(), places).url == "http://127.0.0.1:9000"
    user_file(places, PROFILES)
    assert (find(Flags(), places).url, find(Flags(), places).url_origin) == ("https://work.example.org", "profile work")
    assert find(Flags(profile="home"), places).url == "https://home.example.org"
    assert find(Flags(), {**places, "AITBC_PROFILE": "home"}).url == "https://home.example.org"
    assert find(Flags(profile="work"), {**places, "AITBC_PROFILE": "home"}).url == "https://work.example.org"
    environ = {**places, "AITBC_URL": "http://env.example.org"}
    assert (find(Flags(), environ).url, find(Flags(), environ).url_origin) == ("http://env.example.org", "AITBC_URL")
    where = find(Flags(url="http://flag.example.org/"), environ)
    assert (where.url, where.url_origin) == ("http://flag.example.org", "flag")


def test_each_source_of_a_key_gives_way_to_a_stronger_one(places: dict[str, str], tmp_path: Path) -> None:
    local_server(places)
    assert find(Flags(), places).key == "key-of-admin"
    user_file(places, PROFILES)
    assert (find(Flags(), places).key, find(Flags(), places).key_origin) == ("key-of-work", "profile work")
    environ = {**places, "AITBC_API_KEY_FILE": str(private(tmp_path, "key-of-file\n"))}
    assert find(Flags(), environ).key == "key-of-file"
    environ["AITBC_API_KEY"] = " key-of-env "
    assert find(Flags(), environ).key == "key-of-env"
    flag = tmp_path / "flag.key"
    flag.write_text("key-of-flag")
    flag.chmod(0o600)
    assert (find(Flags(key_file=flag), environ).key, find(Flags(key_file=flag), environ).key_origin) == (
        "key-of-flag",
        "flag",
    )


def test_a_key_goes_only_where_it_belongs(places: dict[str, str]) -> None:
    local_server(places)
    assert find(Flags(url="http://evil.example.org"), places).key is None
    user_file(places, PROFILES)
    assert find(Flags(url="http://evil.example.org"), places).key is None
    assert find(Flags(), {**places, "AITBC_URL": "http://evil.example.org"}).key is None
    assert find(Flags(url="http://127.0.0.1:9000"), places).key == "key-of-admin"
    assert find(Flags(profile="home"), places).key is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("profile = 'work", "not TOML"),
        ("profile = 'gone'", "no profile 'gone'"),
        ("profile = 'work'\n[profiles.work]\nurll = 'x'", "urll is not a setting"),
        ("profile = 'work'\n[profiles.work]\nurl = 7", "must be a string"),
        ("profile = 'work'\n[profiles.work]\nurl = 'ftp://x'", "no URL of a server"),
        ("profile = 'work'\nprofiles = 3", "no profile 'work'"),
    ],
)
def test_a_file_that_cannot_be_used_is_bad_configuration(text: str, words: str, places: dict[str, str]) -> None:
    user_file(places, text)
    stop = refused(Flags(), places)
    assert stop.exit_code == 78
    assert words in stop.message


def test_a_key_that_others_can_read_is_refused_with_the_remedy(places: dict[str, str], tmp_path: Path) -> None:
    file = private(tmp_path, "key", 0o644)
    stop = refused(Flags(key_file=file), places)
    assert (stop.exit_code, stop.hint) == (78, f"run: chmod 600 {file}")
    config = user_file(places, PROFILES, 0o640)
    stop = refused(Flags(), places)
    assert (stop.exit_code, stop.hint) == (78, f"run: chmod 600 {config}")


@pytest.mark.parametrize("content", [b"", b"two words", b"two\nlines", b"\xff\xfe", b"esc\x1b"])
def test_a_file_that_holds_no_key_is_refused(content: bytes, places: dict[str, str], tmp_path: Path) -> None:
    file = private(tmp_path, "")
    file.write_bytes(content)
    stop = refused(Flags(key_file=file), places)
    assert stop.exit_code == 78
    assert content.decode(errors="replace").strip() == "" or content.decode(errors="replace") not in stop.message
    assert refused(Flags(key_file=tmp_path / "missing"), places).exit_code == 78
    assert refused(Flags(key_file=tmp_path), places).exit_code == 78


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8080",
        "ftp://x",
        "http://",
        "http://user:pass@host",
        "http://h/?q=1",
        "http://h/#f",
        "http://h\n",
        "http://[h",
        "http://:80",
    ],
)
def test_what_is_no_url_of_a_server_is_refused(url: str, places: dict[str, str]) -> None:
    assert refused(Flags(url=url), places).exit_code == 2
    if url:
        assert refused(Flags(), {**places, "AITBC_URL": url}).exit_code == 78


def test_the_state_folder_is_found_as_the_server_finds_it(home: Path) -> None:
    environ = {"HOME": str(home)}
    (home / "aitbc.toml").write_text('state_dir = "here"\n')
    assert state_folder(environ) == home / "here"
    other = home / "other" / "x.toml"
    other.parent.mkdir()
    other.write_text('state_dir = "there"\n')
    assert state_folder({**environ, "AITBC_CONFIG": str(other)}) == home / "other" / "there"
    assert state_folder({**environ, "AITBC_STATE_DIR": "/somewhere"}) == Path("/somewhere")


def test_a_secret_is_not_in_what_is_printed_of_it() -> None:
    where = Where("http://h", "flag", "key-of-somebody", "flag", None, Path("/x"))
    assert "key-of-somebody" not in f"{where} {where!r}"
