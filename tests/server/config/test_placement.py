"""Which process serves what: the plan that every process reads out of the same settings."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.errors import ConfigError, Unauthenticated
from aitbc.server.cluster.service_token import TOKEN_SECONDS, Tokens
from aitbc.server.config.placement import MAIN, placement_of
from aitbc.server.config.settings import ModuleSettings, ServerSettings, Settings

NAMES = ("gpu", "ai", "trading")


def plan(modules: dict[str, dict[str, Any]], process: str = MAIN) -> Any:
    made = {name: ModuleSettings(**modules.get(name, {})) for name in NAMES}
    settings = Settings(state_dir=Path("/state"), modules=made, server=ServerSettings(port=8080))
    return placement_of(settings, NAMES, process)


def test_all_mounted_is_one_process_on_one_port_with_no_internal_listener() -> None:
    made = plan({})
    assert made.modules_here == NAMES
    assert not made.ports
    assert not made.peer_hosts
    assert made.socket is None


def test_an_exposed_module_gets_its_own_port_in_the_same_process() -> None:
    made = plan({"gpu": {"place": "exposed"}, "ai": {"place": "exposed", "port": 9000}})
    assert made.modules_here == NAMES
    assert made.ports == {8101: ("gpu",), 9000: ("ai",)}
    assert made.socket is None


def test_exposed_modules_share_the_ports_of_the_older_coordinator() -> None:
    legacy = {"place": "exposed", "port": "legacy"}
    assert plan({"gpu": legacy, "trading": legacy}).ports == {8011: ("gpu", "trading"), 8000: ("gpu", "trading")}


def test_a_module_may_have_its_own_port_and_those_of_the_older_coordinator() -> None:
    both = {"place": "exposed", "port": "both"}
    made = plan({"gpu": both, "ai": both})
    assert made.ports == {8101: ("gpu",), 8106: ("ai",), 8011: ("gpu", "ai"), 8000: ("gpu", "ai")}


def test_every_process_of_a_split_installation_knows_where_the_others_are() -> None:
    split: dict[str, dict[str, Any]] = {"gpu": {"place": "split"}, "ai": {"place": "split"}}
    main, gpu = plan(split), plan(split, "gpu")
    assert main.modules_here == ("trading",)
    assert {name: at.socket.name for name, at in main.peer_hosts.items()} == {"gpu": "gpu.sock", "ai": "ai.sock"}
    assert main.socket == Path("/state/run/main.sock")
    assert not main.ports
    assert gpu.modules_here == ("gpu",)
    assert gpu.ports == {8101: ("gpu",)}
    assert {name: at.socket.name for name, at in gpu.peer_hosts.items()} == {"ai": "ai.sock", "trading": "main.sock"}
    assert gpu.socket == Path("/state/run/gpu.sock")


@pytest.mark.parametrize(
    ("modules", "process", "words"),
    [
        ({"gpu": {"place": "exposed", "port": 8106}, "ai": {"place": "exposed"}}, MAIN, ("8106", "gpu", "ai")),
        ({"gpu": {"place": "split", "port": 8106}, "ai": {"place": "split"}}, MAIN, ("8106", "gpu", "ai")),
        (
            {"gpu": {"place": "split", "port": "legacy"}, "ai": {"place": "exposed", "port": "legacy"}},
            MAIN,
            ("8011", "gpu", "ai"),
        ),
        ({"gpu": {"place": "exposed", "port": 8080}}, MAIN, ("8080", "gateway", "gpu")),
        ({}, "gpu", ("gpu", "split")),
        ({}, "hermes", ("hermes", "trading")),
    ],
)
def test_what_cannot_be_is_said_with_both_names(
    modules: dict[str, dict[str, Any]], process: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as refused:
        plan(modules, process)
    assert all(word in refused.value.message for word in words)
    assert refused.value.exit_code == 78


def test_a_service_token_is_good_for_one_receiver_and_one_minute() -> None:
    ours, theirs, foreign = Tokens(b"secret", MAIN), Tokens(b"secret", "gpu"), Tokens(b"other", "gpu")
    token = ours.issue("gpu")
    assert theirs.sender(token) == MAIN
    for receiver, shown in (
        (Tokens(b"secret", "ai"), token),
        (foreign, token),
        (theirs, token[:-1] + ("0" if token[-1] != "0" else "1")),
        (theirs, "x" + token),
        (theirs, token.partition(".")[0]),
        (theirs, ""),
        (theirs, "é.é"),
    ):
        with pytest.raises(Unauthenticated):
            receiver.sender(shown)
    clock.move(timedelta(seconds=TOKEN_SECONDS + 1))
    with pytest.raises(Unauthenticated):
        theirs.sender(token)
