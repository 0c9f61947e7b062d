"""Every source of a secret, with a secret that cannot be used: the message names the source and no piece of the secret."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aitbc.app import MODULES
from aitbc.kernel.primitives.errors import ConfigError
from aitbc.kernel.telemetry.log_writer import _spellings
from aitbc.server.cluster.nats import servers_of
from aitbc.server.config.database_url import target_of
from aitbc.server.config.installation import secret_of
from aitbc.server.config.loading import load
from aitbc_cli.client import _proxy_of
from aitbc_cli.exits import Stop
from aitbc_cli.miner.executors.chat import _read_key
from aitbc_cli.miner.executors.fields import FieldError
from aitbc_cli.settings import Flags, checked_key, find, read_private

PIECES = ("hunter2", "xyzzy")
BROKEN = ("hunter2\nxyzzy", "hunter2\r\nxyzzy", "“hunter2xyzzy”", "hunter2 xyzzy", "hunter2\x7fxyzzy", "hunter2ü")
"""A line break in the middle, curly quotes, a space, a control character, a letter that no header carries."""


def private(folder: Path, text: str) -> Path:
    """A file that others cannot read."""
    file = folder / "secret"
    file.write_text(text)
    file.chmod(0o600)
    return file


def said(source: str | tuple[str, ...], call: Callable[[], object]) -> None:
    """The call is refused with exit code 78, the source in the message (one of several names) and no piece of the secret."""
    with pytest.raises((Stop, ConfigError)) as refused:
        call()
    error = refused.value
    assert isinstance(error, Stop | ConfigError) and error.exit_code == 78
    words = f"{error.message} {getattr(error, 'hint', '')}"
    assert any(name in words for name in ([source] if isinstance(source, str) else source)), words
    assert not any(piece in words for piece in PIECES), words


@pytest.mark.parametrize("secret", BROKEN)
def test_the_key_of_the_command_line(secret: str, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    said("AITBC_API_KEY", lambda: find(Flags(), {**home, "AITBC_API_KEY": secret}))
    file = private(tmp_path, secret)
    said("AITBC_API_KEY_FILE", lambda: find(Flags(), {**home, "AITBC_API_KEY_FILE": str(file)}))
    said("--api-key-file", lambda: find(Flags(key_file=file), home))
    said("--token-file", lambda: read_private(file, "--token-file"))
    said("AITBC_ENROLMENT_TOKEN", lambda: checked_key(secret, "AITBC_ENROLMENT_TOKEN"))
    config = tmp_path / ".config/aitbc/config.toml"
    config.parent.mkdir(parents=True)
    quoted = "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in secret)
    config.write_text(f'profile = "far"\n[profiles.far]\napi_key = "{quoted}"\n')
    config.chmod(0o600)
    said("profile far", lambda: find(Flags(), home))


def test_a_key_may_end_with_a_line_break(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "AITBC_API_KEY": "hunter2\n"}
    assert find(Flags(), environ).key == "hunter2"


def test_a_password_in_the_url_of_a_server(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "AITBC_URL": "http://hunter2:xyzzy@127.0.0.1:8080"}
    said("AITBC_URL", lambda: find(Flags(), environ))


@pytest.mark.parametrize("secret", BROKEN)
def test_the_key_of_a_chat_server(secret: str, tmp_path: Path) -> None:
    with pytest.raises(FieldError) as refused:
        _read_key(private(tmp_path, secret))
    assert str(tmp_path) in str(refused.value)
    assert not any(piece in str(refused.value) for piece in PIECES)


@pytest.mark.parametrize("secret", BROKEN)
@pytest.mark.parametrize("name", ["secret_key", "database.url", "nats.url", "gateway.auth_key"])
def test_each_secret_of_the_server_from_each_source(name: str, secret: str, tmp_path: Path) -> None:
    tables = {module.name: module.settings for module in MODULES if module.settings is not None}
    home = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}

    def read(environ: dict[str, str]) -> None:
        """What a start does with its secrets."""
        settings = load({}, {**home, **environ}, tmp_path, tables, system_file=tmp_path / "none").settings
        if settings.database.url is not None:
            target_of(settings.database.url.reveal())
        if settings.nats.url is not None:
            servers_of(settings.nats.url.reveal())
        if settings.secret_key is not None:
            assert secret.isprintable()  # any line of text will do for it
            raise ConfigError("secret_key AITBC_SECRET_KEY credentials")

    variable = "AITBC_" + name.replace(".", "__").upper()
    said(name if name in ("database.url", "nats.url") else variable, lambda: read({variable: secret}))
    file = private(tmp_path, secret)
    said((name, f"{variable}_FILE"), lambda: read({f"{variable}_FILE": str(file)}))
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / name).write_text(secret)
    said(name, lambda: read({"CREDENTIALS_DIRECTORY": str(folder)}))


@pytest.mark.parametrize(
    "text",
    [
        'secret_key = """\nhunter2xyzzy\n',
        "secret_key = '''\nhunter2=xyzzy\n",
        'secret_key = "hunter2\nxyzzy"\n',
        "hunter2 = xyzzy\n",
        "secret_key = “hunter2xyzzy”\n",
    ],
)
def test_a_file_of_settings_that_is_not_toml(text: str, tmp_path: Path) -> None:
    file = tmp_path / "aitbc.toml"
    file.write_text(text)
    file.chmod(0o600)
    said(str(file), lambda: load({}, {"HOME": str(tmp_path)}, tmp_path, {}, system_file=tmp_path / "none"))


@pytest.mark.parametrize(
    "url",
    [
        "nats://hunter2?xyzzy@far.example",
        "nats://hunter2#xyzzy@far",
        "nats://hunter2,xyzzy@far",
        "nats://u:hunter2/xyzzy@far",
        "nats://u:hunter2[xyzzy@far",
    ],
)
def test_a_password_with_reserved_letters_in_the_url_of_nats(url: str) -> None:
    said("nats.url", lambda: servers_of(url))


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", ["http://u:hunter2/xyzzy@far:3128", "http://u:hunter2[xyzzy@far", "hunter2:xyzzy"])
def test_a_password_with_reserved_letters_in_the_url_of_a_proxy(
    proxy: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(variable, proxy)
    said(variable.upper(), lambda: _proxy_of("https", "market.example"))


def test_a_secret_that_is_no_url_is_masked_all_the_same() -> None:
    assert {b"hunter2[xyzzy", b"nats://u:hunter2[xyzzy@far"} <= set(_spellings(["nats://u:hunter2[xyzzy@far"]))


def test_a_damaged_secret_in_the_state_folder(tmp_path: Path) -> None:
    file = tmp_path / "secret.key"
    file.write_text("hunter2xyzzy")
    file.chmod(0o600)
    environ = {"HOME": str(tmp_path), "AITBC_STATE_DIR": str(tmp_path)}
    settings = load({}, environ, tmp_path, {}, system_file=tmp_path / "none").settings
    said("secret.key", lambda: secret_of(settings))
