"""Batches on the command line."""

import json
from datetime import UTC, datetime
from pathlib import Path

from aitbc_cli.exits import NOT_FOUND, REFUSED, USAGE
from tests.cli.installation import CliInstallation


def test_a_batch_is_run_shown_and_its_errors_are_written(installation: CliInstallation, tmp_path: Path) -> None:
    alice, file = installation.alice, tmp_path / "requests.jsonl"
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "nope", "input": "x"}}
    file.write_text(json.dumps(line) + "\nno json\n")
    done = alice.gets("batch", "run", str(file), "--wait")
    assert (done["status"], done["request_counts"]) == ("completed", {"total": 2, "completed": 0, "failed": 2})
    assert alice.gets("batch", "show", done["id"]) == done
    assert [one["id"] for one in alice.gets("batch", "list")] == [done["id"]]
    told = alice.does("batch", "results", done["id"], "--errors").out.splitlines()
    assert [json.loads(one)["response"]["status_code"] for one in told] == [404, 400]
    assert alice.does("batch", "results", done["id"]).out == ""
    table = alice.does("batch", "show", done["id"], "--utc").out
    assert datetime.fromtimestamp(done["created_at"], UTC).strftime("%Y-%m-%d %H:%M:%SZ") in table
    refused = alice.does("batch", "run", str(file), "--endpoint", "/v1/moderations", code=USAGE)
    assert "A batch is for one of" in refused.err
    assert "nothing to cancel" in alice.does("batch", "cancel", done["id"], code=REFUSED).err
    alice.does("batch", "show", "batch_no", code=NOT_FOUND)
    file.write_text("no json\n")
    assert "the first line has no url" in alice.does("batch", "run", str(file), code=USAGE).err


def test_a_file_is_uploaded_listed_downloaded_and_deleted(installation: CliInstallation, tmp_path: Path) -> None:
    alice, path = installation.alice, tmp_path / "requests.jsonl"
    path.write_text('{"url": "/v1/embeddings"}\n')
    made = alice.gets("file", "upload", str(path))
    assert (made["filename"], made["bytes"], made["purpose"]) == ("requests.jsonl", 26, "batch")
    assert alice.gets("file", "show", made["id"]) == made
    assert alice.gets("file", "list", "--purpose", "batch")[0] == made
    copy = tmp_path / "copy.jsonl"
    alice.does("file", "download", made["id"], "--to", str(copy))
    assert copy.read_bytes() == path.read_bytes()
    assert alice.gets("file", "delete", made["id"], "--yes")["deleted"] is True
    alice.does("file", "show", made["id"], code=NOT_FOUND)
