"""Studies on the command line, and what a miner earned."""

import json
from pathlib import Path

from aitbc_cli.exits import NOT_FOUND, REFUSED
from aitbc_cli.study_plot import picture
from tests.cli.installation import CliInstallation


def test_a_study_is_created_shown_paused_and_canceled(installation: CliInstallation, tmp_path: Path) -> None:
    alice = installation.alice
    file = tmp_path / "study.json"
    study = {
        "name": "Words",
        "kind": "embed",
        "input": {"texts": ["of {{params.word}}"]},
        "params": {"word": {"type": "choice", "choices": ["tide", "ebb"]}},
        "objective": {"value": "output.dimensions"},
        "trials": 3,
        "parallel": 1,
        "budget": "0.2",
        "max_price": "0.05",
    }
    file.write_text(json.dumps(study | {"budget": "0.01"}))
    assert "covers no trial" in alice.does("study", "create", str(file), code=2).err
    file.write_text(json.dumps(study))
    made = alice.gets("study", "create", str(file))
    assert (made["state"], made["trials"], made["best"]) == ("running", 3, None)
    study_id = made["id"]
    assert [one["id"] for one in alice.gets("study", "list")] == [study_id]
    assert alice.gets("study", "pause", study_id)["state"] == "paused"
    assert alice.gets("study", "resume", study_id)["state"] == "running"
    assert "Words" in alice.does("study", "show", study_id).out
    alice.does("study", "best", study_id, code=1)
    alice.does("study", "plot", study_id, str(tmp_path / "study.svg"), code=1)
    assert alice.gets("study", "cancel", study_id)["state"] in ("canceling", "canceled")
    alice.does("study", "wait", study_id, "--timeout", "60s", code=1)
    shown = alice.gets("study", "show", study_id)
    assert (shown["state"], shown["reserved"]) == ("canceled", "0")
    alice.does("study", "resume", study_id, code=REFUSED)
    alice.does("study", "show", "study_no", code=NOT_FOUND)
    assert alice.gets("miner", "estimate", "--kind", "sing") == {"per_day": None, "basis": "no data"}


def test_a_picture_has_a_point_for_each_value_and_escapes_what_others_wrote() -> None:
    results = [
        {"number": number, "value": value, "params": {"rate": value}} for number, value in enumerate((0.5, None, 0.2))
    ]
    study = {
        "name": "<script>",
        "direction": "minimize",
        "trials": 3,
        "begun": 3,
        "results": results,
        "importance": {"rate": 0.75, "layers": 0.25},
    }
    drawn = picture(study)
    assert drawn.count("<circle") == 2
    assert "<script>" not in drawn
    assert "75%" in drawn
    assert "no data" in picture(study | {"importance": None})
