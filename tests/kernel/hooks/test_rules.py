"""Each rule of publication finds what it is for, and says nothing of what is right."""

from typing import Any

import msgspec
import pytest

from aitbc.kernel.crypto.signing import digest
from aitbc.kernel.hooks.manifest import fits, manifest_text, numbers
from aitbc.kernel.hooks.rules.all_rules import RULES, findings_in
from aitbc.kernel.hooks.rules.package import Known
from aitbc.kernel.hooks.rules.similar_name_rule import distance
from aitbc.kernel.hooks.wasm_file import NotWasm, read_wasm
from tests.kernel.hooks.plugins import HALF, manifest, module

GOOD = module(HALF)
LOG = '(import "aitbc" "log" (func $log (param i32 i32)))'
KNOWN = Known(
    names=frozenset({"trust.night-price", "trust.fine", "trust.quality-judge"}),
    blocked_hosts=frozenset({"evil.example"}),
    blocked_digests=frozenset({digest(module("(i32.const 0)"))}),
    release="0.1.0",
)


def _rules(declared: Any, artifact: bytes, known: Known = KNOWN) -> list[tuple[str, str]]:
    text = declared if isinstance(declared, bytes) else manifest_text(declared).encode()
    return [(finding.rule, finding.severity) for finding in findings_in(text, artifact, known)]


def test_nothing_is_found_in_what_is_right() -> None:
    assert _rules(manifest(), GOOD) == []
    assert _rules(manifest(permissions=("log",)), module(HALF, imports=LOG)) == []
    assert _rules(manifest(kind="remote", endpoint="https://plugins.example.org/x"), b"") == []


FAR = "https://plugins.example.org/x"
WRONG: list[tuple[str, Any, bytes]] = [
    ("manifest", b"{", GOOD),
    ("manifest", b'{"name":"acme.x"}', GOOD),
    ("manifest", msgspec.json.encode({**msgspec.to_builtins(manifest()), "colour": "red"}), GOOD),
    ("manifest", manifest(hooks=("price.9",)), module(HALF, hook="price.9")),
    ("manifest", manifest(aitbc=">=7"), GOOD),
    ("manifest", manifest(kind="remote"), b""),
    ("manifest", manifest(kind="remote", endpoint=FAR, permissions=("log",)), b""),
    ("manifest", manifest(endpoint=FAR), GOOD),
    ("size", manifest(), GOOD + b"\0\xff\xff\x1f" + b"\0" * (512 * 1024 - 1)),
    ("size", manifest(), module("(drop (i32.const 0))" * 22_000 + "(i32.const 0)")),
    ("exports", manifest(), b"no module"),
    ("exports", manifest(), module(HALF, hook="price")),
    ("exports", manifest(), module(HALF, more="(func $go) (start $go)")),
    ("imports", manifest(), module(HALF, imports=LOG)),
    ("imports", manifest(permissions=("log",)), module(HALF, imports=LOG.replace("aitbc", "env"))),
    ("leaked_secret", manifest(), module(HALF, data='(data (i32.const 0) "AKIAABCDEFGHIJKLMNOP")')),
    ("leaked_secret", manifest(description="-----BEGIN RSA PRIVATE" + " KEY-----"), GOOD),
    ("blocked_host", manifest(), module(HALF, data='(data (i32.const 0) "https://a.evil.example/x")')),
    ("blocked_host", manifest(kind="remote", endpoint="https://evil.example/x"), b""),
    ("blocked_host", manifest(kind="remote", endpoint="ftp://x.example/x"), b""),
    ("blocked_module", manifest(), module("(i32.const 0)")),
    ("similar_name", manifest("acme.night-prlce"), GOOD),
    ("similar_name", manifest("acme.n1ghtprice"), GOOD),
    ("similar_name", manifest("acme.fine"), GOOD),
]


@pytest.mark.parametrize(("rule", "declared", "artifact"), WRONG)
def test_what_is_wrong_is_rejected_by_its_rule(rule: str, declared: Any, artifact: bytes) -> None:
    assert (rule, "reject") in _rules(declared, artifact)


def test_every_rule_is_tried_here_and_a_name_that_is_only_close_is_doubtful() -> None:
    assert {rule for rule, _, _ in WRONG} == set(RULES)
    assert _rules(manifest("acme.quality-jubges"), GOOD) == [("similar_name", "quarantine")]
    assert _rules(manifest("trust.night-prices"), GOOD) == [], "of one's own namespace any name may be close"


@pytest.mark.parametrize(
    ("one", "other", "letters"),
    [
        ("abc", "abc", 0),
        ("abcd", "abdc", 1),
        ("abcd", "abc", 1),
        ("abcd", "axcd", 1),
        ("abcdef", "ba", 3),
        ("ca", "abc", 3),
    ],
)
def test_letters_that_differ_are_counted(one: str, other: str, letters: int) -> None:
    assert distance(one, other) == distance(other, one) == letters


def test_ranges_of_versions() -> None:
    assert fits(">=0.1,<1", "0.1.0") and not fits(">=0.1,<1", "1.0.0") and fits("==0.2", "0.2.0.dev3")
    assert numbers("1.10.0") > numbers("1.9.9")


def test_bytes_that_are_cut_or_changed_anywhere_are_read_or_refused_and_nothing_else() -> None:
    for at in range(len(GOOD)):
        for one in (GOOD[:at], GOOD[:at] + bytes([GOOD[at] ^ 0xFF]) + GOOD[at + 1 :]):
            try:
                read_wasm(one)
            except NotWasm:
                continue
