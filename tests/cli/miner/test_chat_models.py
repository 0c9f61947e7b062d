"""The models of a chat server: announced as it lists them or as the owner states, and compared with what answered."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aitbc_cli.miner.executors.chat_models import ChatModels, public_name
from aitbc_cli.miner.executors.pool import ExecutorPool, Outcome, Work
from aitbc_cli.miner.executors.work import WorkFailed
from tests.cli.miner.chat_engine import Engine

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Say hello."}]}
GGUF = "/srv/bob/models/gemma-3-270m.gguf"


Do = Callable[..., Outcome]


@pytest.fixture
def pool_of(open_pool: Callable[..., ExecutorPool], engine: Engine) -> Callable[..., ExecutorPool]:
    """A pool whose miner states these models."""
    return lambda *stated: open_pool({"chat": {"base_url": engine.url, "models": list(stated)}})


@pytest.fixture
def do(runner: asyncio.Runner, make_work: Callable[..., Work]) -> Do:
    def done(pool: ExecutorPool, told: list[str] | None = None, **options: Any) -> Outcome:
        texts = told if told is not None else []
        work = make_work("chat", ASK | options)
        return runner.run(pool.run(work, on_progress=lambda progress: texts.append(progress.text)))

    return done


def failed(outcome: Outcome) -> tuple[str, str]:
    assert outcome.error is not None
    return outcome.error.fault, outcome.error.reason


def test_models_are_announced_as_the_server_lists_them_and_without_its_folders(
    runner: asyncio.Runner, pool_of: Callable[..., ExecutorPool], engine: Engine, do: Do
) -> None:
    engine.listed = [GGUF, "llama3.2:latest", "org/name", "\x1b[31m", "x" * 101]
    pool = pool_of()
    assert runner.run(pool.check("chat")).detail["models"] == ["gemma-3-270m.gguf", "llama3.2:latest", "org/name"]
    outcome = do(pool, model="gemma-3-270m.gguf")
    assert outcome.output is not None and outcome.output["model"] == "gemma-3-270m.gguf"
    assert engine.asked == [GGUF]


def test_an_owner_may_state_models_and_other_names_for_them(
    runner: asyncio.Runner, pool_of: Callable[..., ExecutorPool], engine: Engine, do: Do
) -> None:
    engine.listed = ["llama3.2:latest", "m2"]
    pool = pool_of("llama3.2", "big=m2", "gone")
    detail = runner.run(pool.check("chat")).detail
    assert detail == {"models": ["llama3.2", "big"], "missing": ["gone"]}
    for name, theirs in (("llama3.2", "llama3.2:latest"), ("big", "m2")):
        outcome = do(pool, model=name)
        assert outcome.output is not None and outcome.output["model"] == name
        assert engine.asked[-1] == theirs
    assert do(pool).output is not None and engine.asked[-1] == "llama3.2:latest"  # none was named: the first
    assert failed(do(pool, model="m2")) == ("platform", "model_unavailable")


def test_a_server_without_the_stated_models_or_any_is_not_usable(
    runner: asyncio.Runner, pool_of: Callable[..., ExecutorPool], engine: Engine
) -> None:
    status = runner.run(pool_of("nope").check("chat"))
    assert not status.usable
    assert "none of nope" in status.message and "m1, m2" in status.message
    engine.listed = []
    assert not runner.run(pool_of().check("chat")).usable
    engine.listed = None  # it has no list: what the owner states is believed
    assert runner.run(pool_of("nope").check("chat")).detail["models"] == ["nope"]
    assert runner.run(pool_of().check("chat")).detail["models"] == []


def test_an_answer_of_another_model_is_refused_before_a_word_is_told(
    pool_of: Callable[..., ExecutorPool], engine: Engine, do: Do
) -> None:
    engine.answers_as = "/srv/secret/tiny"
    told: list[str] = []
    outcome = do(pool_of(), told, model="m1")
    assert failed(outcome) == ("miner", "wrong_model")
    assert outcome.error is not None and "--chat-model 'm1=tiny'" in outcome.error.message
    assert "".join(told) == "" and "secret" not in outcome.error.message
    engine.listed, engine.loaded = ["tiny"], {"tiny"}
    assert do(pool_of("m1=tiny"), model="m1").error is None


@pytest.mark.parametrize("refusal", [404, 400])
def test_a_model_that_the_server_lists_and_lacks_is_nobodys_fault(
    runner: asyncio.Runner, pool_of: Callable[..., ExecutorPool], engine: Engine, do: Do, refusal: int
) -> None:
    engine.loaded, engine.refusal = {"m2"}, refusal
    pool = pool_of()
    assert failed(do(pool, model="m1")) == ("platform", "model_unavailable")
    assert runner.run(pool.check("chat")).detail["models"] == ["m1", "m2"]
    assert do(pool).error is None and engine.asked[-1] == "m2"  # where none is named, one that is there


def test_a_model_that_came_later_is_found(pool_of: Callable[..., ExecutorPool], engine: Engine, do: Do) -> None:
    pool = pool_of()
    assert do(pool, model="m1").error is None
    engine.listed = ["m3"]
    assert do(pool, model="m3").error is None
    assert failed(do(pool, model="m4")) == ("platform", "model_unavailable")


@pytest.mark.parametrize(
    ("asked", "answered", "is_same"),
    [
        ("m1", None, True),
        ("m1", "m1", True),
        ("m1", "m10", False),
        ("m1", "M1", False),
        ("llama3.2", "llama3.2:latest", True),
        ("gemma.gguf", "/models/gemma.gguf", True),
        ("gpt", "gpt-2024-08-06", False),
    ],
)
def test_an_answer_is_of_the_model_that_was_asked_for(asked: str, answered: str | None, is_same: bool) -> None:
    models = ChatModels([asked])
    if is_same:
        models.require_answer_of(asked, answered)
        return
    with pytest.raises(WorkFailed):
        models.require_answer_of(asked, answered)


def test_a_name_shows_no_folder() -> None:
    names = {GGUF: "gemma-3-270m.gguf", "C:\\m\\a.gguf": "a.gguf", "models/a.gguf": "a.gguf", "~/a": "a", "./b/": "b"}
    assert {name: public_name(name) for name in names} == names
    assert public_name("org/name:tag") == "org/name:tag"


def test_what_a_server_says_of_its_models_is_announced_and_a_digest_pins_one(
    runner: asyncio.Runner, pool_of: Callable[..., ExecutorPool], engine: Engine, do: Do
) -> None:
    pool = pool_of()
    engine.listed, engine.entries = ["m1", "m2"], {"m1": {"max_model_len": 8192}, "m2": {"max_model_len": "many"}}
    assert runner.run(pool.check("chat")).detail["facts"] == {"m1": {"context": 8192}}

    meta = {"n_ctx_train": 32_768, "n_ctx": 2048, "ftype": "Q4_K - Medium"}  # as xllamacpp 2026.10 lists it
    told = {"owned_by": "llamacpp", "meta": meta, "architecture": {"input_modalities": ["text", "video"]}}
    engine.listed, engine.entries = ["m1"], {"m1": told}
    listed = {"context": 2048, "quantization": "Q4_K_M", "modalities": ["text"]}
    assert runner.run(pool.check("chat")).detail["facts"] == {"m1": listed}
    engine.entries = {"m1": {"owned_by": "llamacpp", "meta": {"n_ctx_train": 32_768}}}  # as older ones do
    props: dict[str, Any] = {"default_generation_settings": {"n_ctx": 4096}, "modalities": {"vision": True}}
    engine.beside = {"/props": props}
    facts = {"context": 4096, "modalities": ["text", "image"]}
    assert runner.run(pool.check("chat")).detail["facts"] == {"m1": facts}
    engine.beside = {"/props": ["nonsense"]}
    assert "facts" not in runner.run(pool.check("chat")).detail

    digest = "0123456789abcdef" * 4
    engine.listed = ["llama3.2:3b", "other:latest"]
    engine.entries = {name: {"owned_by": "library"} for name in engine.listed}
    details = {"quantization_level": "Q4_K_M"}
    tags: list[dict[str, Any]] = [
        {"name": "llama3.2:3b", "digest": digest, "details": details},
        {"name": "other:latest", "digest": "none"},
    ]
    engine.beside = {"/api/tags": {"models": tags}, "/api/show": {"llama3.2:3b": {"capabilities": ["completion"]}}}
    detail = runner.run(pool.check("chat")).detail
    pin = f"llama3.2:3b@sha256:{digest[:12]}"
    said = {"modalities": ["text"], "quantization": "Q4_K_M"}
    assert detail["models"] == ["llama3.2:3b", "other:latest", pin]
    assert detail["facts"] == {"llama3.2:3b": said, pin: said}
    outcome = do(pool, model=pin)
    assert outcome.error is None and outcome.output is not None
    assert (outcome.output["model"], engine.asked[-1]) == (pin, "llama3.2:3b")
    tags[0]["digest"] = "f" * 64  # the tag is pulled anew
    assert runner.run(pool.check("chat")).detail["models"][2:] == [f"llama3.2:3b@sha256:{'f' * 12}"]
    assert failed(do(pool, model=pin)) == ("platform", "model_unavailable")


def test_a_model_that_left_an_empty_server_is_nobodys_fault(
    runner: asyncio.Runner, pool_of: Callable[..., ExecutorPool], engine: Engine, do: Do
) -> None:
    pool = pool_of()
    assert runner.run(pool.check("chat")).usable
    engine.listed = []
    status = runner.run(pool.check("chat"))
    assert (status.usable, status.reason) == (False, "executor_unavailable")
    for wanted in ({"model": "m2"}, {}):  # taken before the server was told
        assert failed(do(pool, **wanted)) == ("platform", "model_unavailable")
