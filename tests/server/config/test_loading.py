"""Settings come from where they should, and whatever is wrong is said in one line with source, setting and remedy."""

import json
import os
import pickle
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from aitbc.kernel.primitives.errors import ConfigError
from aitbc.kernel.primitives.secret import Secret
from aitbc.server.config.loading import Loaded, describe, load, schema


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    days: int = 3


class Trading(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    fee_basis_points: Annotated[int, Meta(ge=0, le=10_000)] = 250
    rate: Decimal = Decimal("0.5")
    webhook: Secret | None = None
    keep: Inner = Inner()


TABLES = {"trading": Trading}


def loading(folder: Path, *, flags: dict[str, Any] | None = None, **environ: str) -> Loaded:
    """Load with folders of the test's own; the system's file is `system.toml`, the user's lies below `user`."""
    places = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "user"), "XDG_STATE_HOME": str(folder / "state")}
    return load(
        flags or {}, places | environ, folder, TABLES, modules=("gpu", "ai"), system_file=folder / "system.toml"
    )


def refusal(folder: Path, **sources: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        loading(folder, **sources)
    assert caught.value.exit_code == 78
    assert "\n" not in caught.value.message
    return caught.value.message


def written(folder: Path, text: str, *, name: str = "aitbc.toml", mode: int = 0o600) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    loaded = loading(tmp_path)
    settings = loaded.settings
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)
    assert settings.state_dir == tmp_path / "state" / "aitbc"
    assert settings.database.url is None
    assert settings.modules["gpu"].place == "mounted"
    assert settings.tables["trading"] == Trading()
    assert set(loaded.origins.values()) == {"default"}


@pytest.mark.parametrize("module", ["ai", "gpu", "trading"])
def test_a_retired_setting_is_refused_with_what_to_do(tmp_path: Path, module: str) -> None:
    name, why = f"{module}.hot", "is gone: commands are always batched; remove it"
    assert refusal(tmp_path, flags={name: False}) == f"flag: {name} {why}"
    variable = f"AITBC_{module.upper()}__HOT"
    assert refusal(tmp_path, **{variable: "false"}) == f"environment: {variable} {why}"
    folder = written(tmp_path / "credentials", "false", name=name).parent
    assert refusal(tmp_path, CREDENTIALS_DIRECTORY=str(folder)) == f"{folder}: {name} {why}"
    file = written(tmp_path, f"[{module}]\nhot = false\n")
    assert refusal(tmp_path) == f"{file}: {name} {why}"


def test_a_name_that_was_retired_may_be_a_setting_again(tmp_path: Path) -> None:
    class Again(Struct, frozen=True):
        hot: bool = True

    loaded = load(
        {"trading.hot": False}, {"HOME": str(tmp_path)}, tmp_path, {"trading": Again}, system_file=tmp_path / "s"
    )
    assert loaded.settings.tables["trading"] == Again(hot=False)


SOURCES = ("flag", "environment", "extra", "project", "user", "system")


@given(st.dictionaries(st.sampled_from(SOURCES), st.integers(1, 65535), max_size=6))
def test_the_strongest_source_that_says_something_wins(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, int]
) -> None:
    folder = tmp_path_factory.mktemp("sources")
    names = {"extra": "extra.toml", "project": "aitbc.toml", "user": "user/aitbc/config.toml", "system": "system.toml"}
    for source, name in names.items():
        if source in said:
            written(folder, f"[server]\nport = {said[source]}\n", name=name)
    environ = {"AITBC_SERVER__PORT": str(said["environment"])} if "environment" in said else {}
    if "extra" in said:
        environ["AITBC_CONFIG"] = "extra.toml"
    loaded = loading(folder, flags={"server.port": said.get("flag")}, **environ)

    winner = next((source for source in SOURCES if source in said), None)
    assert loaded.settings.server.port == (said[winner] if winner else 8080)
    where = {"flag": "flag", "environment": "AITBC_SERVER__PORT", None: "default"}
    where |= {source: str(folder / name) for source, name in names.items()}
    assert loaded.origins["server.port"] == where[winner]


def test_variables_are_read_by_the_type_of_their_setting(tmp_path: Path) -> None:
    loaded = loading(
        tmp_path,
        AITBC_SERVER__I_ACCEPT_PLAIN_HTTP="true",
        AITBC_SERVER__HOSTS="a.example, b.example",
        AITBC_SERVER__BODY_SECONDS="2.5",
        AITBC_LOG__LEVELS="gpu=debug, ai=error",
        AITBC_STATE_DIR="here",
        AITBC_TRADING__FEE_BASIS_POINTS="10",
        AITBC_TRADING__KEEP__DAYS="9",
        AITBC_TRADING__RATE="0.25",
        AITBC_MODULES__GPU__PORT="legacy",
        AITBC_MODULES__AI__PORT="8200",
        AITBC_DATABASE__PROVISION="",
    )
    settings = loaded.settings
    assert settings.server.i_accept_plain_http is True
    assert settings.server.hosts == ["a.example", "b.example"]
    assert settings.server.body_seconds == 2.5
    assert settings.log.levels == {"gpu": "debug", "ai": "error"}
    assert settings.state_dir == tmp_path / "here"
    assert settings.tables["trading"] == Trading(fee_basis_points=10, rate=Decimal("0.25"), keep=Inner(days=9))
    assert (settings.modules["gpu"].port, settings.modules["ai"].port) == ("legacy", 8200)
    assert settings.database.provision is True


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[server]\nprot = 1", ["server.prot is not a setting", "did you mean server.port?"]),
        ("[sever]\nport = 1", ["sever is not a setting", "did you mean server?"]),
        ("[trading]\nfee_basis_point = 1", ["did you mean trading.fee_basis_points?"]),
        ("[modules.gpus]\nplace = 'mounted'", ["modules.gpus is not a setting", "modules.gpu"]),
        ('[server]\nport = "8080"', ["server.port: Expected `int`, got `str`", "port = 8080"]),
        ("[server]\nport = true", ["server.port: Expected `int`, got `bool`"]),
        ("[server]\nport = 70000", ["server.port: Expected `int` <= 65535"]),
        ("[server]\nbody_seconds = nan", ["server.body_seconds:", "write for instance: body_seconds = 30.0"]),
        ("[server]\nbody_seconds = inf", ["server.body_seconds:"]),
        ("server = 3", ["server is a table", "[server]"]),
        ("[log]\nlevel = 'loud'", ["log.level", "debug, info, warning, error"]),
        ("[log]\nlevels = {gpu = 'loud'}", ["log.levels"]),
        ("[server]\nport = 1\nport = 2", ["line 3: port: this is set twice"]),
        ("[server]\n[server]", ["line 2: [server]: this is set twice"]),
        ("[server]\nport = \n", ["line 2: port: this is not TOML"]),
        ("\ufeffserver.port = 1", ["byte order mark"]),
        ("[database]\nurl = 7", ["database.url: Expected `str`, got `int`"]),
        ("[database]\nurl = ''", ["database.url: Expected one line"]),
        ("[server]\nhosts = ['*']", ["server.hosts"]),
        ("[server]\norigins = ['example.org']", ["server.origins"]),
        ("[server]\ntls_key = 'k.pem'", ["server.tls_certificate: it is needed beside tls_key"]),
        ("[modules.gpu]\nplace = 'moon'", ["modules.gpu.place", "mounted, exposed, split"]),
        ("[modules.gpu]\nport = 'old'", ["modules.gpu.port", "new, legacy"]),
        ('["ser\\nver"]\nport = 1', ["ser?ver is not a setting"]),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_file_key_and_remedy(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = written(tmp_path, text)
    message = refusal(tmp_path)
    assert message.startswith(str(path))
    for part in parts:
        assert part in message


def test_a_file_that_cannot_be_read_as_text_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    path.write_bytes(b"[server]\nhost = '\xff'")
    assert "byte 17 is not UTF-8" in refusal(tmp_path)
    path.unlink()
    path.mkdir()
    assert "it is a folder" in refusal(tmp_path)
    path.rmdir()
    os.mkfifo(path)
    assert "no regular file" in refusal(tmp_path)
    path.unlink()
    path.symlink_to("nowhere")
    assert "cannot be read" in refusal(tmp_path)
    assert "gone.toml: cannot be read" in refusal(tmp_path, AITBC_CONFIG="gone.toml")


def test_a_file_of_settings_has_a_size_limit_and_a_depth_limit(tmp_path: Path) -> None:
    written(tmp_path, "#" * (1 << 20) + "\n")
    assert "longer than" in refusal(tmp_path)
    written(tmp_path, "a = " + "[" * 100_000)
    refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_read_permission_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "", mode=0o000)
    assert "let the user who runs aitbc read it" in refusal(tmp_path)


def test_a_file_that_others_can_read_may_hold_settings_but_no_secret(tmp_path: Path) -> None:
    path = written(tmp_path, "[server]\nport = 1", mode=0o644)
    assert loading(tmp_path).settings.server.port == 1
    written(tmp_path, "[database]\nurl = 'postgresql://u:canary-1@h/d'", mode=0o644)
    message = refusal(tmp_path)
    assert f"chmod 600 {path}" in message
    assert "canary" not in message


def test_an_unknown_variable_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    message = refusal(tmp_path, AITBC_SERVER__PROT="canary-2")
    assert "AITBC_SERVER__PROT is not a setting; did you mean AITBC_SERVER__PORT?" in message
    assert "canary" not in message
    assert "AITBC_DATABASE_URL?" in refusal(tmp_path, AITBC_DATABASE_ULR="x")


def test_the_variables_of_the_command_line_are_left_alone(tmp_path: Path) -> None:
    names = ["URL", "API_KEY", "API_KEY_FILE", "OUTPUT", "PROFILE", "TIMEOUT", "PROJECT", "MINER_NAME"]
    variables: dict[str, Any] = {f"AITBC_{name}": "x" for name in names}
    assert loading(tmp_path, **variables).settings.server.port == 8080
    written(tmp_path, "[profiles.home]\nurl = 'http://x'", name="user/aitbc/config.toml")
    assert loading(tmp_path).settings.server.port == 8080


def test_a_secret_may_come_from_a_file_that_is_named_instead(tmp_path: Path) -> None:
    url = written(tmp_path, "postgresql://u:p@h/d\n", name="url")
    loaded = loading(tmp_path, AITBC_DATABASE_URL_FILE="url")
    assert loaded.settings.database.url == Secret("postgresql://u:p@h/d")
    assert loaded.origins["database.url"] == "AITBC_DATABASE_URL_FILE"
    written(tmp_path, f"secret_key_file = '{url}'\n[trading]\nwebhook_file = 'url'")
    settings = loading(tmp_path).settings
    assert settings.secret_key == Secret("postgresql://u:p@h/d")
    assert settings.tables["trading"].webhook == settings.secret_key
    assert "set beside it" in refusal(tmp_path, AITBC_SECRET_KEY_FILE="url", AITBC_SECRET_KEY="x")
    assert "unset one of the two" in refusal(tmp_path, AITBC_DATABASE_URL="x", AITBC_DATABASE__URL="y")
    url.chmod(0o644)
    assert f"chmod 600 {url}" in refusal(tmp_path, AITBC_SECRET_KEY_FILE="url")
    written(tmp_path, "two\nlines", name="url")
    assert "one line of printable text" in refusal(tmp_path, AITBC_SECRET_KEY_FILE="url")


def test_credentials_of_systemd_are_found_by_the_name_of_their_setting(tmp_path: Path) -> None:
    written(tmp_path, "postgresql://u:p@h/d\n", name="credentials/database.url")
    loaded = loading(tmp_path, CREDENTIALS_DIRECTORY=str(tmp_path / "credentials"))
    assert loaded.settings.database.url == Secret("postgresql://u:p@h/d")
    assert loaded.origins["database.url"].endswith("credentials/database.url")


def test_paths_start_at_the_file_that_names_them(tmp_path: Path) -> None:
    written(tmp_path, "[server]\ntls_key = 'k.pem'\ntls_certificate = '/c.pem'", name="user/aitbc/config.toml")
    server = loading(tmp_path).settings.server
    assert (server.tls_key, server.tls_certificate) == (tmp_path / "user/aitbc/k.pem", Path("/c.pem"))


def test_a_secret_is_seen_nowhere(tmp_path: Path) -> None:
    loaded = loading(tmp_path, AITBC_DATABASE_URL="postgresql://u:canary-3@h/d", AITBC_TRADING__WEBHOOK="canary-4")
    rows = {row.key: row for row in describe(loaded)}
    assert rows["database.url"].value == rows["trading.webhook"].value == "********"
    assert rows["database.url"].origin == "AITBC_DATABASE_URL"
    assert rows["secret_key"].value == ""
    assert "canary" not in f"{rows} {loaded} {loaded.settings!r} {loaded.settings.tables}"
    for encode in (msgspec.json.encode, msgspec.msgpack.encode, json.dumps, pickle.dumps, msgspec.to_builtins):
        with pytest.raises(TypeError):
            encode(loaded.settings.database.url)
    assert sorted(loaded.secrets) == ["canary-4", "postgresql://u:canary-3@h/d"]


def test_what_is_shown_of_the_settings_can_be_written_back(tmp_path: Path) -> None:
    loaded = loading(tmp_path, AITBC_LOG__LEVELS="gpu=debug", AITBC_SERVER__HOSTS="a.example")
    lines = [f"{row.key} = {row.value}" for row in describe(loaded) if row.value]
    written(tmp_path, "\n".join(lines))
    assert loading(tmp_path).settings == loaded.settings


def test_standard_variables_are_read_once_here(tmp_path: Path) -> None:
    assert not loading(tmp_path).no_color
    loaded = loading(tmp_path, NO_COLOR="1", NOTIFY_SOCKET="@aitbc", WATCHDOG_USEC="3000000")
    assert (loaded.no_color, loaded.notify_socket, loaded.watchdog_seconds) == (True, "@aitbc", 3.0)
    assert loading(tmp_path, WATCHDOG_USEC="3000000", WATCHDOG_PID="1").watchdog_seconds is None


def test_a_required_setting_of_a_module_is_asked_for(tmp_path: Path) -> None:
    class Needy(Struct, frozen=True):
        region: str

    with pytest.raises(ConfigError, match=r"needy.region must be set; .*AITBC_NEEDY__REGION"):
        load({}, {"HOME": "/"}, tmp_path, {"needy": Needy})


def test_the_schema_names_every_setting(tmp_path: Path) -> None:
    text = json.dumps(schema(TABLES, ("gpu", "ai")))
    for row in describe(loading(tmp_path)):
        assert re.search(f'"{row.key.rpartition(".")[2]}"', text)
