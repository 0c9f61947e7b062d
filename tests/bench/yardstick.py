"""The yardstick for paid jobs: pgbench writes the same rows in three transactions a life, with nothing else to do.

It runs beside the platform on the same cluster, in a database with the same tables, indexes and triggers. Each of its
clients has accounts and a lane of its own, so that no lock holds it up: this is the most that one statement after the
other can reach here, not a caricature of it.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

from aitbc.kernel.database.unit_of_work import Target
from aitbc.server.postgres.embedded import binaries
from tests.bench.stage import Server, fetch_now

DATABASE = "yardstick"
CLIENTS = 64
SCRIPT = Path(__file__).with_name("yardstick.sql")
SAMPLE = """
SELECT j.input, j.output, j.needs, j.output_digest AS digest, a.body AS answer, p.body AS placed, s.body AS settled,
       r.body AS receipt, o.body AS event, t.usage, t.signature
FROM ai.jobs j JOIN ai.answers a ON strpos(a.body, 'job_') > 0
JOIN trading.holds h ON h.id = j.id JOIN trading.transactions p ON p.id = h.placed_by
JOIN trading.transactions s ON s.id = h.ended_by JOIN trading.receipts r ON r.id = h.id
JOIN ai.attempts t ON t.job = j.id JOIN ai.outbox o ON o.kind ILIKE '%succeeded'
WHERE j.state = 'succeeded' LIMIT 1"""
ACCOUNTS = """
INSERT INTO trading.accounts
    (id, owner, purpose, balance_units, held_units, earned_units, spent_units, version, created_at)
SELECT ('00000000-0000-4000-' || side || '-' || lpad(number::text, 12, '0'))::uuid, 'system', side || number,
       0, 0, 0, 0, 0, now()
FROM generate_series(0, $1::int - 1) AS number, unnest(ARRAY['8001', '8002', '8003', '8004']) AS side"""
# The account of a side for the client that runs the script.
SIDES = {"payer": "8001", "miner": "8002", "escrow": "8003", "fees": "8004"}


class Yardstick:
    """The other database, ready to be written to."""

    name = DATABASE

    def __init__(self, server: Server, folder: Path) -> None:
        """Make it, as a copy of the platform's tables; its texts are those of a life that the platform has written."""
        self._target = server.target(DATABASE)
        self._script = folder / "yardstick.sql"
        sample = server.sql(SAMPLE)[0]
        self._script.write_text(filled(SCRIPT.read_text(), dict(sample)))
        server.sql(f"CREATE DATABASE {DATABASE}")
        schema = _run("pg_dump", server.target(None), "--schema-only", "--schema=ai", "--schema=trading")
        _run("psql", self._target, "--quiet", "--set=ON_ERROR_STOP=1", stdin=schema)
        fetch_now(self._target, ACCOUNTS, CLIENTS)

    def lives_per_second(self, seconds: int) -> float:
        """Let it write for some seconds."""
        told = _run(
            "pgbench",
            self._target,
            "--no-vacuum",
            "--protocol=prepared",
            f"--client={CLIENTS}",
            "--jobs=2",
            f"--time={seconds}",
            f"--file={self._script}",
        )
        failed = re.search(r"number of failed transactions: (\d+)", told)
        assert failed is None or failed[1] == "0", told
        found = re.search(r"tps = ([0-9.]+)", told)
        assert found is not None, told
        return float(found[1])


def filled(script: str, texts: dict[str, Any]) -> str:
    """The script with literals in place of `{name}`: texts of a real life, and the accounts of the client."""
    for name, text in texts.items():
        # A colon would begin a variable of pgbench.
        literal = "'" + str(text).replace("'", "''").replace(":", ";").replace("\n", " ") + "'"
        script = script.replace("{" + name + "}", literal)
    for name, side in SIDES.items():
        account = f"('00000000-0000-4000-{side}-' || lpad(:client_id::text, 12, '0'))::uuid"
        script = script.replace("{" + name + "}", account)
    return script


def _run(program: str, target: Target, *arguments: str, stdin: str | None = None) -> str:
    where = [f"--host={target.host}", f"--port={target.port}", f"--username={target.user}"]
    command = [str(binaries() / program), *where, *arguments, target.database]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{program}: {done.stderr[-2000:]}"
    return done.stdout
