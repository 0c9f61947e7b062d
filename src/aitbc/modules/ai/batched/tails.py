"""Many followers' reads of what an attempt left after a place, its log lines or its parts, in one statement."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids

PIECES_MAX = 100
"""How many pieces one read returns; whoever gets so many reads on."""
BATCH_MAX = 32
"""How many reads go into one statement: each may return a hundred long pieces."""


class Tail(NamedTuple):
    """What is wanted: the pieces of an attempt after a sequence."""

    job: str
    token: int
    after: int


class Piece(NamedTuple):
    """A log line or a part."""

    sequence: int
    at: datetime
    text: str


def _read(table: str) -> str:
    return f"""SELECT wanted.place, piece.sequence, piece.at, piece.text
FROM unnest($1::uuid[], $2::int[], $3::int[]) WITH ORDINALITY AS wanted(job, token, after, place)
CROSS JOIN LATERAL (
    SELECT sequence, at, text FROM ai.{table} AS stored
    WHERE stored.job = wanted.job AND stored.token = wanted.token AND stored.sequence > wanted.after
    ORDER BY stored.sequence LIMIT {PIECES_MAX}
) AS piece
ORDER BY wanted.place, piece.sequence"""  # noqa: S608 - constants


READ_LINES = _read("logs")
READ_PARTS = _read("parts")


async def read_tails(database: Database, statement: str, wanted: Sequence[Tail]) -> list[list[Piece]]:
    """The first pieces of each tail, by well-formed ids; equal ones are read once."""
    places = {tail: place for place, tail in enumerate(dict.fromkeys(wanted), 1)}
    jobs = [ids.decode("job", tail.job) for tail in places]
    async with database.raw() as connection:
        rows = await connection.fetch(statement, jobs, [tail.token for tail in places], [tail.after for tail in places])
    found: dict[int, list[Piece]] = {}
    for place, sequence, at, text in rows:
        found.setdefault(place, []).append(Piece(sequence, at, text))
    return [found.get(places[tail], []) for tail in wanted]
