"""Steps of graphs: read with the ends of their jobs, and written where nothing has changed since."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from aitbc.kernel.database.bulk import BulkTable
from aitbc.kernel.database.outbox import Event, outbox_insert
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.models.graphs.life import Board, GraphValue, JobEnd, Node, NodeState, Place
from aitbc.modules.ai.models.graphs.tables import GraphNodeRow, GraphRow

GRAPHS = BulkTable(GraphRow, GraphValue)
NODES = BulkTable(GraphNodeRow, Node)
GRAPH_ALL = GRAPHS.columns()
NODE_ALL = NODES.columns()
ADD_NODES = NODES.insert()
SAVE_NODES = NODES.update()

READ_GRAPH = f"SELECT {GRAPH_ALL} FROM ai.graphs WHERE id = $1"  # noqa: S608 - constant columns
READ_NODES = f"SELECT {NODE_ALL} FROM ai.graph_nodes WHERE graph = $1"  # noqa: S608
# A job that has ended stays as it is, so what is read of it holds whatever happens meanwhile.
READ_ENDS = """
SELECT id, state, reason, price_units, output_digest FROM ai.jobs
WHERE id = ANY($1::uuid[]) AND completed_at IS NOT NULL"""

# The compare-and-set of every step, which also locks the graph until the step is written.
SAVE_GRAPH = """
UPDATE ai.graphs SET state = $3, reason = $4, budget_units = $5, reserved_units = $6, spent_units = $7,
    due_at = $8, ended_at = $9, kept_until = $10, version = version + 1
WHERE id = $1 AND version = $2"""
SAVE_DUE = "UPDATE ai.graphs SET due_at = $3 WHERE id = $1 AND version = $2"

# Jobs were submitted for nodes that had begun. One that was ended meanwhile by another's word does not get its job.
NOTE_JOBS = """
WITH g AS (
    UPDATE ai.graphs SET version = version + 1, due_at = CASE WHEN version = $5 THEN $6 ELSE due_at END
    WHERE id = $1 RETURNING version)
UPDATE ai.graph_nodes n SET state = 'running', job = v.job, changed = g.version
FROM g, unnest($2::text[], $3::int4[], $4::int4[], $7::uuid[]) AS v(name, index, attempt, job)
WHERE n.graph = $1 AND n.name = v.name AND n.index = v.index AND n.attempt = v.attempt AND n.state = 'starting'"""
READ_JOBS_OF = """
SELECT job FROM ai.graph_nodes WHERE graph = $1 AND job = ANY($2::uuid[])"""

DUE = "SELECT id FROM ai.graphs WHERE due_at <= $1 ORDER BY due_at LIMIT $2"
ENDED = """
SELECT DISTINCT n.graph AS id FROM ai.graph_nodes n JOIN ai.jobs j ON j.id = n.job
WHERE n.state = 'running' AND j.completed_at IS NOT NULL LIMIT $1"""
OUTPUTS = "SELECT id, output, output_digest FROM ai.jobs WHERE id = ANY($1::uuid[]) AND state = 'succeeded'"
FORGET = """
UPDATE ai.graphs SET spec = NULL, kept_until = NULL
WHERE id IN (SELECT id FROM ai.graphs WHERE kept_until <= $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)"""


class Seen(Struct, frozen=True):
    """A graph as it was read: its row, its nodes, and the ends of their jobs."""

    graph: GraphValue
    nodes: Sequence[Node]
    ends: Mapping[str, JobEnd]


class Submitted(Struct, frozen=True):
    """A job that was submitted for a node."""

    place: Place
    attempt: int
    job: str


async def read_graph(db: Database, graph: str) -> Seen | None:
    """A graph with its nodes, by a well-formed id; none where there is no such graph."""
    id_ = ids.decode("graph", graph)
    async with db.raw() as connection:
        row = await connection.fetchrow(READ_GRAPH, id_)
        if row is None:
            return None
        nodes = await connection.fetch(READ_NODES, id_)
        jobs = [node["job"] for node in nodes if node["state"] == NodeState.RUNNING and node["job"] is not None]
        ends = await connection.fetch(READ_ENDS, jobs) if jobs else []
    found = {
        ids.encode("job", end["id"]): JobEnd(end["state"], end["reason"], end["price_units"] or 0, end["output_digest"])
        for end in ends
    }
    return Seen(GRAPH_ALL.read(row), [NODE_ALL.read_values(node) for node in nodes], found)


async def save_step(db: Database, board: Board, events: Sequence[Event]) -> bool:
    """Write a step with its events; false, and nothing written, where the graph has moved on since it was read."""
    async with db.raw_transaction() as connection:
        return await write_step(connection, board, events)


async def write_step(connection: Connection, board: Board, events: Sequence[Event]) -> bool:
    """The same in a transaction that is open already."""
    graph = board.graph
    done = await connection.execute(
        SAVE_GRAPH,
        ids.decode("graph", graph.id),
        graph.version,
        graph.state,
        graph.reason,
        graph.budget_units,
        graph.reserved_units,
        graph.spent_units,
        graph.due_at,
        graph.ended_at,
        graph.kept_until,
    )
    if done != "UPDATE 1":
        return False
    graph.version += 1
    changed = list(board.changed.values())
    for node in (*changed, *board.added):
        node.changed = graph.version
    writes = WriteBatch()
    if changed:
        writes.write(SAVE_NODES, changed)
    if board.added:
        writes.write(ADD_NODES, board.added)
    if events:
        statement, columns = outbox_insert("ai", events)
        writes.add(statement, *columns)
    await writes.do(connection)
    return True


async def save_due(db: Database, graph: GraphValue) -> None:
    """Note when a graph is to be looked at next, where it has not moved on."""
    async with db.raw(writes=True) as connection:
        await connection.execute(SAVE_DUE, ids.decode("graph", graph.id), graph.version, graph.due_at)


async def note_jobs(
    db: Database, graph: str, version: int, due_at: datetime | None, submitted: Sequence[Submitted]
) -> list[str]:
    """Note the jobs of nodes that had begun; answers the jobs that belong to none, for their nodes were ended."""
    id_ = ids.decode("graph", graph)
    jobs = [ids.decode("job", one.job) for one in submitted]
    names, indexes = [one.place[0] for one in submitted], [one.place[1] for one in submitted]
    attempts = [one.attempt for one in submitted]
    async with db.raw(writes=True) as connection:
        done = await connection.execute(NOTE_JOBS, id_, names, indexes, attempts, version, due_at, jobs)
        if done == f"UPDATE {len(submitted)}":
            return []
        kept = {ids.encode("job", row["job"]) for row in await connection.fetch(READ_JOBS_OF, id_, jobs)}
    return [one.job for one in submitted if one.job not in kept]


async def due_graphs(db: Database, at: datetime, limit: int) -> list[str]:
    """The graphs that are to be looked at: their time has come, or a job of theirs has ended."""
    async with db.raw() as connection:
        rows = [*await connection.fetch(DUE, at, limit), *await connection.fetch(ENDED, limit)]
    return list(dict.fromkeys(ids.encode("graph", row["id"]) for row in rows))


async def read_outputs(db: Database, nodes: Sequence[Node]) -> dict[str, tuple[str | None, str | None]]:
    """Output, as JSON text or none once it is removed, and digest of the jobs of these nodes, by job."""
    jobs = [ids.decode("job", node.job) for node in nodes if node.job is not None]
    if not jobs:
        return {}
    async with db.raw() as connection:
        rows = await connection.fetch(OUTPUTS, jobs)
    return {ids.encode("job", row["id"]): (row["output"], row["output_digest"]) for row in rows}


async def forget_specs(db: Database, at: datetime, limit: int) -> int:
    """Remove what graphs were written with whose retention is over; answers of how many."""
    async with db.raw(writes=True) as connection:
        done = await connection.execute(FORGET, at, limit)
    return int(done.rpartition(" ")[2])
