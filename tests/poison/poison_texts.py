"""Texts that a description may allow and nobody expects: in the query and in fields that are bound to no pattern."""

from collections.abc import Iterator
from urllib.parse import quote
from uuid import uuid4

from aitbc.kernel.primitives.pagination import encode_cursor
from tests.poison.cases import Case
from tests.poison.operations import Call, Operation, as_json

TEXTS = (
    *(
        "",
        " ",
        "0",
        "-1",
        "null",
        "text",
        "*",
        "%",
        "_",
        "'",
        '"',
        "\\",
        "../..",
        "$1",
        "{}",
        "[]",
        "a.b.c",
        "job_",
        "acct_",
    ),
    *("acct_00000000000000000000000000", "acct_zzzzzzzzzzzzzzzzzzzzzzzzzz", "job_01kb2c3d4e5f6g7h8j9kamnpqr", "9" * 30),
    *(
        "0" * 64,
        "sha256:" + "0" * 64,
        "\U0001f9ea" * 9,
        "e\u0301",
        "\ufdfa" * 9,
        "\u0130",
        "\u1e9e",
        "' OR 1=1 --",
        "\ud7ff",
    ),
)
POSITIONS = ("", "text", "acct_", "2030-01-31T12:00:00Z", "9" * 30, -1, 2**63 - 1, 2**64 - 1, True, None)
LISTS = (
    *(
        "accounts",
        "keys",
        "events",
        "receipts",
        "blocks",
        "block_records",
        "entries",
        "ledger_accounts",
        "transactions",
    ),
    *("ai.jobs", "ai.job_log", "gpu.miners"),
)
"""The names that cursors are bound to; those of lists with filters hold for the list without."""


def texts_that_nobody_expects(operation: Operation, call: Call) -> Iterator[Case]:
    """Each of the texts for each of the fields; cursors that are well made, with a position that no list gave."""
    fine = frozenset({operation.success, 402, 403, 404, 409, 422, 429})
    for field in operation.parameters("query"):
        if field.is_text:
            for text in TEXTS:
                yield Case(f"?{field.name}={text!r}", call.asked(field.name, quote(text, safe="")), fine)
        if field.name == "cursor":
            for name in LISTS:
                for position in POSITIONS:
                    cursor = encode_cursor(name, position)
                    yield Case(f"the cursor {position!r} of {name}", call.asked("cursor", cursor), fine)
    for field in operation.fields:
        if field.is_text:
            for text in TEXTS:
                if not field.refuses_text(text):
                    changed = call.saying(as_json(operation.with_field(field, text)))
                    yield Case(f"{text!r} in {field.where}", changed.headed("idempotency-key", uuid4().hex), fine)
