"""The models that jobs named, for whoever adds up what was paid by model."""

from collections.abc import Sequence

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.models.queue import needs_of

NEEDS = "SELECT id, needs FROM ai.jobs WHERE id = ANY($1::uuid[])"


async def models_of(database: Database, jobs: Sequence[str]) -> Sequence[tuple[str, str]]:
    """Job and model of those of these jobs that named a model."""
    async with database.raw() as connection:
        rows = await connection.fetch(NEEDS, [ids.decode("job", job) for job in jobs if ids.is_id("job", job)])
    named = ((ids.encode("job", row["id"]), needs_of(row["needs"]).model) for row in rows)
    return [(job, model) for job, model in named if model is not None]
