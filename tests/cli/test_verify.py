"""Engines are compared by likelihoods: honest ones pass, wrong weights fail, at the rates that the document states."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli.likelihoods import FAILED, MORE, PASSED, POSITIONS_MORE, judged, tolerance_of
from aitbc_cli.main import run as aitbc
from tests.cli.tiny_server import Received, Reply, answering, told
from tests.scale import scaled

DRAWS = scaled(4_000, 40_000)
FORMS = {
    "decode against prefill": (0.035, 0.127, 0.176, 0.25),
    "4 slots": (0.039, 0.150, 0.184, 0.25),
    "Q8_0 storage": (0.059, 0.194, 0.235, 0.44),
    "Q5_0": (0.166, 0.515, 0.938, 1.02),
    "layer silenced": (0.479, 1.50, 2.50, 3.97),
    "Q4_0": (0.558, 1.94, 3.05, 4.11),
}
"""Mean, p95, p99 and most of the differences that were measured on 160 positions each."""


def drawn(form: str, chance: random.Random) -> float:
    """A difference out of a measured distribution: its body is a power of a uniform draw, so that the mean fits."""
    mean, p95, p99, most = FORMS[form]
    tail = 0.04 * (p95 + p99) / 2 + 0.01 * (p99 + most) / 2
    power = 0.95 * p95 / (mean - tail) - 1
    u = chance.random()
    if u < 0.95:
        return float(p95 * (u / 0.95) ** power)
    return p95 + (p99 - p95) * (u - 0.95) / 0.04 if u < 0.99 else p99 + (most - p99) * (u - 0.99) / 0.01


def verdicts(form: str, passes: float, fails: float) -> dict[str, float]:
    """How often an engine of this form gets each verdict, the further check included."""
    chance = random.Random(form)
    counts = dict.fromkeys((PASSED, FAILED, MORE), 0)
    for _ in range(DRAWS):
        values = [drawn(form, chance) for _ in range(20)]
        verdict = judged(passes, fails, values, prompts=4)
        if verdict == MORE:
            verdict = judged(passes, fails, values + [drawn(form, chance) for _ in range(POSITIONS_MORE)], prompts=12)
        counts[verdict] += 1
    return {verdict: count / DRAWS for verdict, count in counts.items()}


def test_the_tolerance_accuses_hardly_anybody_and_catches_wrong_weights() -> None:
    chance = random.Random(1)
    honest = [[drawn("decode against prefill", chance) for _ in range(5)] for _ in range(32)]
    tolerance = tolerance_of("tiny", honest)
    assert (tolerance.passes, tolerance.fails, tolerance.positions) == (0.1, 0.13, 160)
    assert tolerance.accused == 0.0
    found = {form: verdicts(form, tolerance.passes, tolerance.fails) for form in FORMS}
    for form in ("decode against prefill", "4 slots", "Q8_0 storage"):
        assert found[form][FAILED] <= 0.001, form
        assert found[form][PASSED] >= 0.99, form
    assert found["Q5_0"][PASSED] <= 0.1
    assert found["Q5_0"][FAILED] >= 0.8
    for form in ("layer silenced", "Q4_0"):
        assert found[form][PASSED] <= 0.001, form
        assert found[form][FAILED] >= 0.995, form


def test_too_little_proves_nothing() -> None:
    with pytest.raises(ValueError, match="prove nothing"):
        judged(0.1, 0.13, [9.0] * 19, prompts=4)
    with pytest.raises(ValueError, match="prove nothing"):
        tolerance_of("tiny", [[9.0] * 20])


def test_engines_of_wider_differences_get_a_wider_tolerance() -> None:
    wide = tolerance_of("noisy", [[0.2, 0.1, 0.3, 0.25, 0.15]] * 8)
    assert wide.passes > 0.2
    assert wide.fails == pytest.approx(wide.passes * 1.3, abs=1e-3)


def an_engine(shift: float) -> Any:
    """A server that speaks like llama.cpp's, whose prefill differs from what it decoded by so much."""

    def answer(asked: Received) -> Reply:
        body = asked.json()
        if asked.path == "/tokenize":
            return told({"tokens": [len(body["content"]), 7]})
        tokens = [{"id": number, "logprob": -1.0} for number in range(body["n_predict"])]
        if body["n_predict"] > 1:
            return told({"completion_probabilities": tokens, "model": "tiny.gguf"})
        nearly = {"id": len(body["prompt"]) - 2, "logprob": -1.0 - shift}
        return told({"completion_probabilities": [{"top_logprobs": [nearly, {"id": 99, "logprob": -9.0}]}]})

    return answer


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """A command, and what it printed."""
    code = aitbc([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_an_engine_is_calibrated_and_others_are_held_against_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "tiny.json")
    with (
        answering(an_engine(0.03)) as honest,
        answering(an_engine(0.5)) as wrong,
        answering(an_engine(0.11)) as unclear,
    ):
        code, tolerance = run(capsys, "verify", "calibrate", "--engine", honest.url, "--model", "tiny", "--out", file)
        assert (code, tolerance["mean"], tolerance["passes"], tolerance["positions"]) == (0, 0.03, 0.1, 60)
        assert json.loads(Path(file).read_text()) == tolerance
        for checks, verdict, positions, ends in (
            (honest, "passed", 20, 0),
            (wrong, "failed", 20, 5),
            (unclear, "more", 60, 1),
        ):
            words = ("verify", "engine", "--engine", honest.url, "--against", checks.url, "--tolerance", file)
            code, said = run(capsys, *words)
            said = said.get("error", said)
            assert (code, said["verdict"], said["positions"]) == (ends, verdict, positions)


def test_what_is_no_engine_and_no_tolerance_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(lambda _: told({"tokens": []})) as silly:
        assert run(capsys, "verify", "calibrate", "--engine", silly.url, "--model", "x")[0] == 6
        assert run(capsys, "verify", "calibrate", "--engine", "ftp://nowhere", "--model", "x")[0] == 2
        bad = tmp_path / "bad.json"
        bad.write_text('{"passes": 0.5, "fails": 0.1, "model": "x"}')
        words = ("verify", "engine", "--engine", silly.url, "--against", silly.url, "--tolerance", str(bad))
        assert run(capsys, *words)[0] == 2
