"""The parts of the bench that compute: medians, aims, the table, the report and the script of the yardstick."""

import io
import json

import pytest

from aitbc.kernel.crypto.chain_verifier import verify_export
from tests.bench import exports
from tests.bench.__main__ import MEASUREMENTS
from tests.bench.figures import AIMS, Measured, quantile, report, rounded, table
from tests.bench.lives import BEAT
from tests.bench.wire import head, with_body
from tests.bench.yardstick import SCRIPT, filled

AIM = {aim.key: aim for aim in AIMS}


def test_a_figure_is_the_median_of_its_rounds_to_three_digits() -> None:
    assert Measured.of([3.0, 1.23456, 0.5]).value == 1.23
    assert rounded(123456.0) == 123000


@pytest.mark.parametrize(
    ("key", "value", "met"),
    [
        ("life_vs_pgbench", 0.5, True),
        ("life_vs_pgbench", 0.49, False),
        ("wake_p99_ms", 50.0, True),
        ("wake_p99_ms", 50.1, False),
        ("help_ms", 1e9, None),
    ],
)
def test_an_aim_is_met_up_to_its_bound(key: str, value: float, met: bool | None) -> None:
    assert AIM[key].is_met(value) is met


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_quantile_is_one_of_the_values(share: float, value: float) -> None:
    assert quantile([4.0, 2.0, 1.0, 3.0], share) == value


def test_every_figure_is_measured_once() -> None:
    assert sorted(key for keys, _ in MEASUREMENTS for key in keys) == sorted(AIM)


def test_the_table_tells_what_is_met_what_is_missed_and_why_something_is_not_there() -> None:
    lines = table(
        {
            "life_vs_pgbench": Measured.of([0.4, 0.6, 0.7], **{"lives a second": 300.0}),
            "poller_kib": Measured.of([21.0]),
            "help_ms": Measured.impossible("there is no program"),
        }
    ).splitlines()
    (life,) = (line for line in lines if line.startswith("life_vs_pgbench"))
    assert "0.6" in life and "≥ 0.5 ok" in life and "0.4 … 0.7" in life
    assert any(line.startswith("poller_kib") and "MISS" in line for line in lines)
    assert any(line.startswith("help_ms") and "not measured: there is no program" in line for line in lines)
    assert any("lives a second" in line and "300" in line for line in lines)


def test_the_report_has_each_figure_under_its_key_and_null_for_one_that_was_not_measured() -> None:
    told = report({"processors": 2.0}, {"poller_kib": Measured.of([12.0]), "help_ms": Measured.impossible("why not")})
    assert told["poller_kib"] == 12
    assert told["help_ms"] is None
    assert told["figures"]["help_ms"]["why"] == "why not"
    assert told["figures"]["poller_kib"] | {"meaning": ""} == {
        "aim": "≤ 20",
        "met": True,
        "meaning": "",
        "rounds": [12.0],
        "details": {},
        "why": "",
    }
    json.dumps(told["machine"])


def test_the_script_of_the_yardstick_gets_every_text_and_no_colon_that_would_name_a_variable() -> None:
    names = ("input", "output", "needs", "digest", "answer", "placed", "settled", "receipt", "event", "usage")
    script = filled(SCRIPT.read_text(), dict.fromkeys((*names, "signature"), 'it\'s {"a":1}'))
    assert "'it''s {\"a\";1}'" in script
    assert not any("{" + name + "}" in script for name in (*names, "payer", "miner", "escrow", "fees"))
    assert script.count("BEGIN;") == script.count("COMMIT;") == 3


def test_a_request_on_the_wire_states_its_length() -> None:
    raw = with_body(head("POST", "/p", "k"), BEAT, b"x: y\r\n")
    top, _, body = raw.partition(b"\r\n\r\n")
    assert body == BEAT
    assert b"content-length: %d" % len(BEAT) in top.split(b"\r\n")
    assert top.startswith(b"POST /p HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer k\r\n")


def test_a_made_export_is_one_that_the_verifier_accepts() -> None:
    out = io.BytesIO()
    entries = exports.write(out, 1)
    assert entries == exports.PEOPLE * 2
    checked = verify_export(io.BytesIO(out.getvalue()))
    assert checked.entries == entries
    ledger = exports.Ledger()
    blocks = ledger.blocks()
    next(blocks)
    assert next(blocks)
    assert ledger.entries == exports.PEOPLE * 2 + exports.LIVES_A_BLOCK * 6
