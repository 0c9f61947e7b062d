"""The container: built from pinned hashes, run as nobody in particular on a root that cannot be written, with no secret in it."""

import json
import re
import shlex
import tomllib
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from aitbc.app import MODULES
from aitbc.server.config.keys import keys_of
from aitbc.server.config.settings import ServerSettings
from aitbc.server.postgres.process import STOP_STEPS
from tests.deploy.programs import DEPLOY

ROOT = DEPLOY.parent
FOLDER = DEPLOY / "container"
CONTAINERFILE = (FOLDER / "Containerfile").read_text()
KNOWN = {
    *("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "STOPSIGNAL", "USER"),
    *("VOLUME", "WORKDIR"),
}
"""The instructions that are used. ADD, which fetches and unpacks, is not among them."""
COMPOSE_KEYS = {
    *("build", "image", "init", "restart", "ports", "environment", "user", "read_only", "cap_drop", "security_opt"),
    *("pids_limit", "mem_limit", "shm_size", "tmpfs", "volumes", "stop_grace_period", "logging"),
}


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Containerfile in order, each as one line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = []
    for line in filter(str.strip, joined.splitlines()):
        name, _, rest = line.partition(" ")
        found.append((name, rest.strip()))
    return found


INSTRUCTIONS = instructions(CONTAINERFILE)
LAST_STAGE = INSTRUCTIONS[max(at for at, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def only(name: str) -> str:
    """What the one instruction of this name in the last stage says."""
    (found,) = (rest for each, rest in LAST_STAGE if each == name)
    return found


def test_every_instruction_is_one_that_is_meant() -> None:
    assert {name for name, _ in INSTRUCTIONS} == KNOWN


def test_the_base_is_pinned_to_a_version() -> None:
    (base,) = (rest.partition("=")[2] for name, rest in INSTRUCTIONS if name == "ARG")
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)
    assert all(rest.startswith("${BASE}") for name, rest in INSTRUCTIONS if name == "FROM")


def test_every_package_is_pinned_with_its_hash() -> None:
    for name, rest in INSTRUCTIONS:
        if name != "RUN":
            continue
        for command in rest.split("&&"):
            words = shlex.split(command)
            if "install" in words and "pip" in words[0]:
                assert "--require-hashes" in words or {"--no-deps", "/wheels/*.whl"} <= set(words), command
                assert not words[0].startswith("pip") and "--no-cache-dir" in words, command
        assert not re.search(r"\b(apt|apt-get|apk|curl|wget|sudo|chmod 777)\b", rest), rest
    used = re.findall(r"-r (requirements/\S+)", CONTAINERFILE)
    assert used == ["requirements/server.txt", "requirements/build.txt"]
    build_backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"][0]
    assert re.match(r"\w+", build_backend)[0] in (ROOT / "requirements/build.txt").read_text()  # type: ignore[index]


def test_what_is_copied_is_there_and_is_let_into_the_build() -> None:
    ignored = (FOLDER / "Containerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    for name, rest in INSTRUCTIONS:
        if name == "COPY" and not rest.startswith("--from="):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source.split("/")[0] in let_in, source


def test_it_runs_as_a_user_with_a_name_who_owns_only_the_state() -> None:
    assert only("USER") == "10001:10001"
    account = only("RUN")
    assert "--uid 10001" in account and "--gid 10001" in account
    assert only("VOLUME") == "/var/lib/aitbc"
    assert "--owner aitbc --group aitbc --mode 0700 /var/lib/aitbc" in account
    assert not [rest for name, rest in LAST_STAGE if name == "COPY" and "--chown" in rest]


def test_it_is_started_without_a_shell_and_asked_for_its_health() -> None:
    assert json.loads(only("ENTRYPOINT")) == ["/opt/aitbc/bin/aitbc"]
    assert json.loads(only("CMD")) == ["serve"]
    check = json.loads(only("HEALTHCHECK").partition("CMD ")[2])
    assert "/healthz" in check[-1]
    compile(check[-1], "the health check", "exec")
    assert f":{ServerSettings().port}/" in check[-1]
    assert only("EXPOSE") == str(ServerSettings().port)


@pytest.fixture(scope="module")
def compose() -> Any:
    """The compose file."""
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def test_the_service_is_closed(compose: Any) -> None:
    assert compose.keys() == {"name", "services", "volumes"}
    (service,) = compose["services"].values()
    assert set(service) == COMPOSE_KEYS
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == only("USER")
    assert all("noexec" in each and "size=" in each for each in service["tmpfs"])
    assert [port.rsplit(":", 2)[0] for port in service["ports"]] == ["127.0.0.1"]
    assert ":" in service["image"] and not service["image"].endswith(":latest")
    assert service["volumes"] == [f"{next(iter(compose['volumes']))}:{only('VOLUME')}"]
    assert (FOLDER / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).samefile(FOLDER / "Containerfile")


def test_the_service_has_the_version_of_the_program_and_time_to_stop(compose: Any) -> None:
    (service,) = compose["services"].values()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert service["image"] == f"aitbc:{version}"
    limit = int(service["stop_grace_period"].removesuffix("s"))
    assert limit > ServerSettings().drain_seconds + 2 + sum(seconds for _, seconds in STOP_STEPS)


def test_every_variable_is_a_setting_and_none_is_a_secret(compose: Any) -> None:
    keys = keys_of({m.name: m.settings for m in MODULES if m.settings is not None}, [m.name for m in MODULES])
    by_variable = {variable: key for key in keys.values() for variable in key.variables}
    (service,) = compose["services"].values()
    given = set(service["environment"]) | {
        word.partition("=")[0] for word in only("ENV").split() if word.startswith("AITBC_")
    }
    assert given <= by_variable.keys()
    assert not [name for name in given if by_variable[name].secret]
    text = (FOLDER / "compose.yaml").read_text()
    assert set(re.findall(r"\bAITBC_[A-Z_]+", text)) <= by_variable.keys()
    assert not re.search(r"(?i)(password|secret|token|key)\w*\s*[:=]\s*['\"]?[A-Za-z0-9+/]{12,}", text + CONTAINERFILE)


def test_an_instruction_over_several_lines_is_one() -> None:
    text = "# a remark\nRUN one \\\n    # between\n    && two\n\nUSER 1\n"
    assert instructions(text) == [("RUN", "one && two"), ("USER", "1")]
