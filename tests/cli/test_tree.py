"""Every command of the tree, whatever it does: its help, its wrong usage, its forms of output, and servers that fail it."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from aitbc.kernel.crypto.signing import Key
from aitbc_cli import client
from aitbc_cli.exits import MEANINGS, NOT_ALLOWED, NOT_FOUND, REFUSED, TIMED_OUT, UNAVAILABLE, USAGE
from aitbc_cli.main import EPILOG
from aitbc_cli.output import FORMATS
from aitbc_cli.tree import NOUNS
from tests.architecture.source import ROOT
from tests.cli.program import Ended, Leaf, commands_in, in_process, nouns_and_leaves, parsed
from tests.cli.tiny_server import Received, Reply, TinyServer, answering, nowhere, problem, silent, told
from tests.for_each import for_each
from tests.scale import FULL, scaled

INNER, LEAVES = nouns_and_leaves()
WITHOUT_DATA = {
    "demo",
    "serve",
    "mcp serve",
    "miner run",
    "config schema",
    "db provision",
    "db shell",
    "completion show",
}
"""They show a story, or print what is no data of a table: a script, a schema, a shell."""
ASKING_NOBODY = {"miner run", "config show", "config validate", "mcp serve"}
"""They have options for a server and need none: a miner waits for its server, and settings are of this machine; or they
answer in a protocol of their own."""
DIAGNOSES = {"doctor", "status"}
"""A server that fails is what they are about."""
WITH_DATA = [leaf for leaf in LEAVES if str(leaf) not in WITHOUT_DATA]
ASKING = [leaf for leaf in LEAVES if "url" in leaf.names and str(leaf) not in ASKING_NOBODY | DIAGNOSES]
LISTS = [leaf for leaf in LEAVES if "limit" in leaf.names]
CHANGING = {
    "account": "create",
    "address": "unwatch, watch",
    "agent": "approve, cancel, register, reject, run, state",
    "alert": "create, delete",
    "asset": "create",
    "batch": "cancel, run",
    "booking": "answer, concede, create, decide, dispute, evidence, interrupt, release, reprice, withdraw",
    "budget": "change, remove, set",
    "chat": "",
    "class": "buy, create, withdraw",
    "deposit": "",
    "edge": "add, balance, choose, deploy, end, remove, rollback, scale, update",
    "events": "end, replay",
    "exchange": "buy, cancel, create, halt, open, sell",
    "faucet": "",
    "file": "delete, upload",
    "gov": "approve, bring-vote, cancel, delegate, execute, give, propose, sponsor, veto, vote, voter-key",
    "gpu": "offer, remove",
    "graph": "cancel, pause, rerun, resume, run",
    "job": "cancel, stop, submit chat, submit command, submit container, submit embed, submit rerank, submit ocr",
    "key": "create, revoke, rotate",
    "limit": "remove, set",
    "log-level": "set",
    "login": "",
    "market": "ask, bid, bond, bond-appeal, bond-decide, bond-leave, cancel, deal, rate, request",
    "miner": "drain, install, remove, resume, token",
    "model": "alias, unalias",
    "monitor": "cancel, create, delete, plan, upkeep",
    "offer": "change, create, rule, sync, withdraw",
    "plugin": "buy, call, install, namespace, price, publish, refund, remove, restore, revoke",
    "schedule": "create, pause, remove, resume",
    "stake": "delegate, lock, unlock",
    "study": "cancel, create, pause, resume, run",
    "trade": "accept, cancel, confirm, counter, deliver, dispute, match, negotiate, offer, rate, refund, request, "
    "settle, stop",
    "tx": "correct",
    "webhook": "create, delete, disable, enable, replay, rotate, test",
}
"""The commands that change something, by their nouns."""
PROMPT_SECONDS = 60.0
EMPTY_PAGE = {"data": [], "has_more": False, "next_cursor": None, "account": "acct_1"}
PICTURE = bytes.fromhex("89504e470d0a1a0a")


@pytest.fixture
def example_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples name, and a key for whoever asks."""
    for name, content in {"notes.txt": b"a b", "invoice.png": PICTURE, "page.jpg": PICTURE}.items():
        (home / name).write_bytes(content)
    (home / "agent.json").write_text('{"name": "one", "skills": []}')
    for name in ("report.yaml", "report.json", "job.json", "rate.json", "rate.yaml"):  # JSON is YAML too
        (home / name).write_text('{"budget": "1", "nodes": []}')
    for name in ("requests.jsonl", "texts.jsonl"):
        (home / name).write_text('{"custom_id": "one", "url": "/v1/embeddings"}')
    (home / "texts.json").write_text('{"texts": ["one"]}')
    plugin = home / "examples/plugins/night-price"
    plugin.mkdir(parents=True)
    (plugin / "plugin.json").write_bytes((ROOT / "examples/plugins/night-price/plugin.json").read_bytes())
    Key.load(home / "plugin.key", create=True)
    (home / "vote.json").write_text('{"proposal": "prop_1", "vote": {}}')
    monkeypatch.setenv("AITBC_API_KEY", "aitbc_live_of_a_test")
    return home


@pytest.fixture
def server() -> Iterator[TinyServer]:
    """A server that answers whatever a test makes it answer."""
    with answering(told({})) as server:
        yield server


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """One repetition, without a pause."""
    monkeypatch.setattr(client, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(client, "ATTEMPTS_MAX", 2)


def is_told_plainly(ended: Ended) -> bool:
    """Whether a failure is told in a sentence and what to do about it, without the insides of the program."""
    return (
        ended.err.startswith("aitbc: ")
        and len(ended.err.splitlines()) <= 3
        and "Traceback" not in ended.err + ended.out
        and "error of the program" not in ended.err
    )


# Help


def test_every_noun_of_the_root_is_there_and_says_the_same_as_its_own_help() -> None:
    assert {leaf.words[0] for leaf in LEAVES} == set(NOUNS)
    texts = [text for _, text in NOUNS.values()]
    assert len(set(texts)) == len(texts)


@for_each(LEAVES)
def test_help_describes_shows_an_example_and_lists_the_exit_codes(
    leaf: Leaf, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = in_process(capsys, *leaf.words, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"Usage: aitbc {leaf}" in ended.out
    assert leaf.command.help and leaf.command.help.strip()[0].isupper()
    assert leaf.command.help.strip() != leaf.command.name
    assert leaf.examples and all(example in ended.out for example in leaf.examples)
    assert set(leaf.exit_codes) >= {0, 1, 2, 78, 130}
    assert leaf.exit_codes.items() <= MEANINGS.items()
    assert in_process(capsys, *leaf.words, "-h") == ended
    assert "\x1b" not in ended.out


@for_each(INNER)
def test_a_noun_alone_shows_its_verbs_and_its_help_each_with_a_sentence(
    leaf: Leaf, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = in_process(capsys, *leaf.words, "--help")
    assert (ended.code, ended.err) == (0, "")
    for name in leaf.command.list_commands(None):
        assert re.search(rf"^  {name} +\S", ended.out, re.MULTILINE), name
    alone = in_process(capsys, *leaf.words)
    assert (alone.code, alone.out) == (USAGE, "")
    assert alone.err.strip() == ended.out.strip()


@for_each(LEAVES)
def test_every_option_and_argument_says_what_it_is_for(leaf: Leaf) -> None:
    silent_ones = [parameter.name for parameter in leaf.command.params if not getattr(parameter, "help", None)]
    assert silent_ones == []


@for_each(LEAVES)
def test_every_example_parses(leaf: Leaf) -> None:
    for line in leaf.examples:
        found = commands_in(line)
        assert found, line
        for words in found:
            parsed(words)


def test_the_examples_of_the_root_parse() -> None:
    found = [words for line in re.findall(r"`([^`]*)`", EPILOG) if "NOUN" not in line for words in commands_in(line)]
    assert len(found) >= 2
    for words in found:
        parsed(words)


@for_each(LEAVES)
def test_help_fits_a_narrow_terminal(
    leaf: Leaf, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    ended = in_process(capsys, *leaf.words, "--help")
    assert (ended.code, ended.err) == (0, "")


def test_no_two_commands_have_the_same_description() -> None:
    texts: dict[str, str] = {}
    for leaf in LEAVES:
        text = leaf.command.help.partition("\n\n")[0]
        assert text not in texts, (str(leaf), texts.get(text))
        texts[text] = str(leaf)


# Wrong usage


@for_each(LEAVES)
def test_an_unknown_option_is_refused_in_one_line(
    leaf: Leaf, example_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = in_process(capsys, *leaf.with_options("--no-such-option"))
    assert (ended.code, ended.out) == (USAGE, "")
    assert is_told_plainly(ended)
    first, *rest = ended.err.splitlines()
    assert "--no-such-option" in first
    assert rest == [f"  see: aitbc {leaf} --help"]


@for_each([leaf for leaf in LEAVES if "debug" in leaf.names])
def test_a_misspelled_option_is_told_what_it_may_have_meant(
    leaf: Leaf, example_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = in_process(capsys, *leaf.with_options("--debgu"))
    assert ended.code == USAGE
    assert "--debug" in ended.err


@for_each(LEAVES)
def test_a_word_too_many_or_too_few_is_refused(
    leaf: Leaf, example_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [each for each in leaf.command.params if each.param_type_name == "argument"]
    if any(argument.required for argument in arguments):
        ended = in_process(capsys, *leaf.words)
    elif any(argument.nargs == -1 for argument in arguments):
        return
    else:
        ended = in_process(capsys, *leaf.words, *("word" for _ in arguments), "one-too-many")
    assert (ended.code, ended.out) == (USAGE, "")
    assert is_told_plainly(ended)


def misspelled() -> list[tuple[str, ...]]:
    """Each command with a letter of its last word left out."""
    found = []
    for leaf in [*INNER, *LEAVES]:
        *before, last = leaf.words
        wrong = last[0] + last[2:] if len(last) > 2 else last + last
        found.append((*before, wrong))
    return found


@for_each(misspelled())
def test_a_misspelled_command_is_told_what_it_may_have_meant(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    ended = in_process(capsys, *words)
    assert (ended.code, ended.out) == (USAGE, "")
    assert is_told_plainly(ended)
    assert f"No such command '{words[-1]}'." in ended.err
    assert "Did you mean" in ended.err


@for_each(scaled(WITH_DATA[::4], WITH_DATA))
def test_wrong_usage_is_json_on_standard_output_where_json_was_asked_for(
    leaf: Leaf, example_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = in_process(capsys, *leaf.with_options("-o", "json", "--no-such-option"))
    assert ended.code == USAGE
    error = json.loads(ended.out)["error"]
    assert (error["code"], error["exit_code"]) == ("usage", USAGE)
    assert "--no-such-option" in error["message"]


@for_each(scaled(WITH_DATA[1::4], WITH_DATA))
def test_a_form_that_does_not_exist_and_two_forms_at_once_are_refused(
    leaf: Leaf, example_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = in_process(capsys, *leaf.with_options("-o", "yaml"))
    assert (ended.code, ended.out) == (USAGE, "")
    assert "yaml" in ended.err and all(form in ended.err for form in FORMATS)
    assert in_process(capsys, *leaf.with_options("--json", "-q")).code == USAGE


@for_each(LEAVES)
def test_data_comes_in_every_form_where_data_comes_out(leaf: Leaf) -> None:
    assert ("output" in leaf.names) == (str(leaf) not in WITHOUT_DATA)
    if "output" in leaf.names:
        assert {"as_json", "fields", "quiet", "utc"} <= leaf.names


@for_each(LEAVES)
def test_what_changes_something_has_a_dry_run_and_an_idempotency_key(leaf: Leaf) -> None:
    """All that the API calls a command of its own; what only reads, or says so by `--sql` and the like, has none."""
    noun, *verbs = leaf.words
    changes = " ".join(verbs) in CHANGING.get(noun, "none").split(", ")
    assert ({"dry_run", "idempotency_key", "yes", "no_input"} <= leaf.names) == changes


# Servers that are not there, or fail


@for_each(scaled(ASKING[::3], ASKING))
def test_a_server_that_is_not_there_is_told_at_once_with_what_to_do(
    leaf: Leaf, example_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = nowhere()
    started = time.monotonic()
    ended = in_process(capsys, *leaf.with_options("--url", url, "--json"))
    assert time.monotonic() - started < PROMPT_SECONDS
    assert ended.code == UNAVAILABLE
    assert UNAVAILABLE in leaf.exit_codes
    assert is_told_plainly(ended)
    assert f"nothing listens at {url}" in ended.err
    assert "aitbc serve" in ended.err
    error = json.loads(ended.out)["error"]
    assert (error["code"], error["exit_code"]) == ("refused_connection", UNAVAILABLE)


@for_each(scaled(ASKING[::5], ASKING))
def test_a_server_that_never_answers_ends_the_command_in_its_time(
    leaf: Leaf, example_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with silent() as url:
        words = ["80ms" if word == "5m" else word for word in leaf.with_options("--url", url, "--timeout", "80ms")]
        started = time.monotonic()
        ended = in_process(capsys, *words)
        assert time.monotonic() - started < PROMPT_SECONDS
    assert (ended.code, ended.out) == (TIMED_OUT, "")
    assert TIMED_OUT in leaf.exit_codes
    assert is_told_plainly(ended)


T = TypeVar("T")


def in_turn(cases: dict[Any, T], leaf: Leaf) -> dict[Any, T]:
    """All cases by `make test-all`; else one of them, another for the next command."""
    chosen = list(cases) if FULL else [list(cases)[LEAVES.index(leaf) % len(cases)]]
    return {name: cases[name] for name in chosen}


REFUSALS = {
    401: (NOT_ALLOWED, "unauthenticated"),
    403: (NOT_ALLOWED, "forbidden"),
    404: (NOT_FOUND, "not_found"),
    409: (REFUSED, "refused_by_state"),
    422: (USAGE, "invalid"),
    429: (UNAVAILABLE, "too_many"),
    500: (1, "internal_error"),
    503: (UNAVAILABLE, "database_unavailable"),
}


@for_each([leaf for leaf in ASKING if str(leaf) not in ("job wait", "job watch")])
def test_a_refusal_ends_with_the_exit_code_that_the_help_names(
    leaf: Leaf, example_files: Path, hasty: None, server: TinyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for status, (exit_code, code) in in_turn(REFUSALS, leaf).items():
        if exit_code not in leaf.exit_codes:
            assert exit_code in (NOT_FOUND, REFUSED)
            continue
        refusal = problem(status, code, f"because of \x1b[31m{code}")
        server.answers = lambda _, refusal=refusal: refusal  # type: ignore[misc]
        ended = in_process(capsys, *leaf.with_options("--url", server.url, "-o", "json"))
        assert ended.code == exit_code, ended
        assert is_told_plainly(ended)
        assert f"because of \\x1b[31m{code}" in ended.err
        assert json.loads(ended.out)["error"]["code"] == code
        assert "\x1b" not in ended.out


ODD = {
    "a page for people": Reply(200, b"<html>hello", {"Content-Type": "text/html"}),
    "another page": Reply(404, b"<html>nothing here", {"Content-Type": "text/html"}),
    "somewhere else": Reply(302, b"", {"Location": "https://example.org/"}),
    "half an answer": Reply(200, b'{"data": [', breaks=4),
    "another shape": told([{"unheard": "of"}]),
    "a bare number": told(7),
}


@for_each([leaf for leaf in ASKING if str(leaf) not in ("job wait", "job watch")])
def test_an_answer_that_makes_no_sense_is_no_success_and_no_traceback(
    leaf: Leaf, example_files: Path, hasty: None, server: TinyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, odd in in_turn(ODD, leaf).items():
        server.answers = lambda _, odd=odd: odd  # type: ignore[misc]
        ended = in_process(capsys, *leaf.with_options("--url", server.url))
        assert ended.code in leaf.exit_codes, name
        assert ended.code != 0, name
        assert is_told_plainly(ended), name


@for_each(scaled(ASKING[1::3], ASKING))
def test_no_key_is_told_with_where_one_may_come_from(
    leaf: Leaf, example_files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AITBC_API_KEY", raising=False)
    ended = in_process(capsys, *leaf.with_options("--url", nowhere()))
    if str(leaf) in ("chain keys", "miner enrol", "miner install"):  # anybody may ask; a one-time token is a key too
        assert ended.code in (NOT_ALLOWED, UNAVAILABLE)
        return
    assert (ended.code, ended.out) == (NOT_ALLOWED, "")
    assert "AITBC_API_KEY" in ended.err


# Lists


def page_for(asked: Received) -> Reply:
    """An empty page."""
    return told(EMPTY_PAGE)


@for_each(LISTS)
def test_an_empty_list_is_empty_in_every_form(
    leaf: Leaf, example_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(page_for) as server:
        shown = {form: in_process(capsys, *leaf.with_options("--url", server.url, "-o", form)) for form in FORMATS}
    assert {ended.code for ended in shown.values()} == {0}
    assert json.loads(shown["json"].out) == []
    assert (shown["jsonl"].out, shown["name"].out) == ("", "")
    assert len(shown["csv"].out.splitlines()) == 1
    assert len(shown["table"].out.splitlines()) <= 1
    assert {ended.err for ended in shown.values()} == {""}


@for_each(LISTS)
def test_a_list_has_bounds_that_are_said(leaf: Leaf, example_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process(capsys, *leaf.with_options("--limit", "0")).code == USAGE
    assert in_process(capsys, *leaf.with_options("--limit", "100001")).code == USAGE


# Questions


@for_each([leaf for leaf in LEAVES if "--yes" in leaf.call and "--yes" in " ".join(leaf.examples)])
def test_what_cannot_be_taken_back_asks_and_without_anybody_to_ask_is_not_done(
    leaf: Leaf, example_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(told({})) as server:
        words = [word for word in leaf.with_options("--url", server.url) if word != "--yes"]
        ended = in_process(capsys, *words)
        assert not [asked for asked in server.asked if asked.method != "GET"]
    assert (ended.code, ended.out) == (USAGE, "")
    assert "--yes" in ended.err
