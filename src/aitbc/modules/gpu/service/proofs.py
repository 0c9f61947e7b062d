"""Proofs of hardware: begun by miners, checked step by step, and kept as facts of their GPUs."""

import asyncio
import base64
import binascii
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.crypto.hardware_proof import is_in_tree, is_of_product, keys_of, number
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, Invalid, NotFound, TooMany
from aitbc.modules.gpu.api import Device, Inventory, MinerNotFound
from aitbc.modules.gpu.models.proofs import (
    COLUMNS,
    MEMORY_SHARE,
    MEMORY_WITHIN,
    OPEN,
    PLACES,
    READS_WITHIN,
    ROWS,
    ROWS_WITHIN,
    VALID,
    WAY,
    AnswerProof,
    AskProof,
    DeviceFact,
    DeviceFactRow,
    OpenedRow,
    Proof,
    ProofRow,
    Step,
    fact_of,
    task_of,
)
from aitbc.modules.gpu.models.tables import MinerRow, ProfileRow
from aitbc.modules.gpu.service.miner_rows import miner_of_key
from aitbc.modules.gpu.service.miners import Miners
from aitbc.modules.gpu.service.retention import Retention
from aitbc.modules.gpu.service.settings import GpuSettings

PAUSE = timedelta(seconds=30)
"""How long after one proof of a GPU began the next may."""
WORDS_A_MIB = 262_144


class ProofNotFound(NotFound):
    """There is no such proof of this miner."""

    code = "proof_not_found"


class DeviceNotShown(NotFound):
    """This miner does not show such a GPU, or not how much memory it has."""

    code = "device_not_shown"


class ProofStepPassed(Conflict):
    """The proof does not wait for this: it is at another step, or over."""

    code = "proof_step_passed"


class ProofAnswerMissing(Invalid):
    """The step of the proof asks for another field than those that were sent."""

    code = "proof_answer_missing"


class TooManyProofs(TooMany):
    """A proof of this GPU has just begun; begin the next in half a minute."""

    code = "too_many_proofs"


class Proofs:
    """Begins, checks and remembers proofs."""

    def __init__(self, db: Database, miners: Miners, settings: GpuSettings, retention: Retention) -> None:
        self._db = db
        self._miners = miners
        self._size = settings.proof_size
        self._retention = retention

    @retrying
    async def begin(self, who: Principal, wish: AskProof) -> Proof:
        """Begin a proof of a GPU of the caller's; one that was under way has failed.

        Raises `MinerNotFound`, `DeviceNotShown`, `TooManyProofs`.
        """
        miner, at = miner_of_key(who), now()
        async with self._db.unit_of_work() as uow:
            await uow.find(MinerRow, miner, lock=True, missing=MinerNotFound)
            device = await _shown(uow, miner, wish.gpu)
            newest = select(ProofRow).where(ProofRow.miner == miner, ProofRow.uuid == wish.gpu)
            last = await uow.session.scalar(newest.order_by(ProofRow.id.desc()).limit(1).with_for_update())
            if last is not None and last.asked_at > at - PAUSE:
                raise TooManyProofs
            if last is not None and last.step in OPEN:
                await _end(uow, last, "another was begun", at)
            size, within = task_of(device.name)
            sellable = device.memory_sellable_mib or device.memory_total_mib or 0
            row = ProofRow(
                id=ids.new_id("prf"),
                miner=miner,
                uuid=wish.gpu,
                name=device.name,
                step=Step.PRODUCT.value,
                seed=secrets.token_hex(16),
                size=self._size or size,
                memory_mib=int(sellable * MEMORY_SHARE),
                asked_at=at,
                due_at=at + within + WAY,
            )
            uow.add(row)
            await uow.session.flush()
            return _view(row)

    async def answer(self, who: Principal, proof: str, sent: AnswerProof) -> Proof:
        """Take the answer to a step: the proof goes on, or has passed or failed. An answer is taken once.

        Raises `ProofNotFound`, `ProofStepPassed`, `ProofAnswerMissing`.
        """
        miner = miner_of_key(who)
        row = await self._read(miner, proof)
        before, at = row.step, now()
        if before not in OPEN:
            raise ProofStepPassed(step=before)
        _require(before, sent)
        failure = "late" if at > row.due_at else await asyncio.to_thread(_failure, row, sent)
        return await self._advance(proof, before, sent, failure, at)

    async def _read(self, miner: str, proof: str) -> ProofRow:
        if not ids.is_id("prf", proof):
            raise ProofNotFound
        async with self._db.reading() as session:
            row = await session.get(ProofRow, proof)
        if row is None or row.miner != miner:
            raise ProofNotFound
        return row

    @retrying
    async def _advance(self, proof: str, before: str, sent: AnswerProof, failure: str | None, at: datetime) -> Proof:
        """Take a checked answer, if the proof is still at that step."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(ProofRow, proof, lock=True, missing=ProofNotFound)
            if row.step != before:
                raise ProofStepPassed(step=row.step)
            if failure is not None:
                await _end(uow, row, failure, at)
            elif before == Step.READS:
                await _end(uow, row, None, at)
            else:
                _go_on(row, sent, at)
            return _view(row)

    async def facts(self, who: Principal, miner: str) -> Sequence[DeviceFact]:
        """What is known of a miner's GPUs by their proofs. Raises `MinerNotFound`."""
        await self._miners.owned(who, miner)
        async with self._db.reading() as session:
            rows = await session.scalars(
                select(DeviceFactRow).where(DeviceFactRow.miner == miner).order_by(DeviceFactRow.uuid)
            )
            return [fact_of(row) for row in rows]

    @retrying
    async def expire(self) -> None:
        """Call claimed again what was measured too long ago, and forget old proofs."""
        at = now()
        old = update(DeviceFactRow).where(DeviceFactRow.as_of < at - VALID, DeviceFactRow.source == "measured")
        async with self._db.unit_of_work() as uow:
            gone = old.values(source="claimed", reason="its last proof is too old").returning(DeviceFactRow.miner)
            for miner in sorted(set(await uow.session.scalars(gone))):
                await _look_anew(uow, miner)
            await uow.session.execute(delete(ProofRow).where(ProofRow.asked_at < at - self._retention.of_proofs()))


async def _shown(uow: UnitOfWork, miner: str, uuid: str) -> Device:
    row = await uow.session.get_one(MinerRow, miner)
    text = row.readings or (await uow.session.get_one(ProfileRow, miner)).inventory
    for device in msgspec.json.decode(text, type=Inventory).devices:
        if device.type != "cpu" and device.uuid == uuid and device.memory_total_mib:
            return device
    raise DeviceNotShown


def _require(step: str, sent: AnswerProof) -> None:
    """Refuse an answer without what the step asks for: nothing is decided by it."""
    told = {
        Step.PRODUCT: sent.root is not None,
        Step.ROWS: sent.rows is not None,
        Step.MEMORY: sent.filled,
        Step.READS: sent.values is not None,
    }
    if not told[Step(step)]:
        raise ProofAnswerMissing(f"The step {step} of the proof asks for another field.", step=step)


def _failure(row: ProofRow, sent: AnswerProof) -> str | None:
    """What is wrong with an answer that is in time; none where nothing is."""
    picked = msgspec.json.decode(row.picked, type=list[int]) if row.picked else []
    if row.step == Step.ROWS:
        assert row.root is not None and sent.rows is not None
        if [one.row for one in sent.rows] != picked:
            return "other rows were opened"
        return next(filter(None, (_row_failure(row, one) for one in sent.rows)), None)
    if row.step == Step.READS:
        keys = keys_of(row.seed, "memory")
        if list(sent.values or ()) != [number(place, keys) for place in picked]:
            return "the memory holds something else"
    return None


def _row_failure(row: ProofRow, opened: OpenedRow) -> str | None:
    try:
        values = base64.b64decode(opened.values, validate=True)
    except binascii.Error:
        return "a row is no base64"
    if len(values) != 4 * row.size or 1 << len(opened.path) != row.size:
        return "a row has another length"
    assert row.root is not None
    if not is_in_tree(bytes.fromhex(row.root), opened.row, values, [bytes.fromhex(one) for one in opened.path]):
        return "a row is not the one that the root was made of"
    columns = [secrets.randbelow(row.size) for _ in range(COLUMNS)]
    return None if is_of_product(row.seed, row.size, opened.row, values, columns) else "the product is wrong"


def _go_on(row: ProofRow, sent: AnswerProof, at: datetime) -> None:
    """The next step of a proof."""
    if row.step == Step.PRODUCT:
        row.root, row.runtime = sent.root, sent.runtime
        row.product_ms = round((at - row.asked_at) / timedelta(milliseconds=1))
        rows = [secrets.randbelow(row.size) for _ in range(ROWS)]
        row.step, row.picked, row.due_at = Step.ROWS.value, msgspec.json.encode(rows).decode(), at + ROWS_WITHIN
    elif row.step == Step.ROWS:
        row.step, row.picked, row.due_at = Step.MEMORY.value, None, at + MEMORY_WITHIN
    else:
        places = [secrets.randbelow(max(1, row.memory_mib * WORDS_A_MIB)) for _ in range(PLACES)]
        row.step, row.picked, row.due_at = Step.READS.value, msgspec.json.encode(places).decode(), at + READS_WITHIN


async def _end(uow: UnitOfWork, row: ProofRow, reason: str | None, at: datetime) -> None:
    """End a proof, and keep what it says of its GPU."""
    row.step = (Step.PASSED if reason is None else Step.FAILED).value
    row.reason, row.ended_at = reason, at
    fact = {
        "name": row.name,
        "source": "measured" if reason is None else "claimed",
        "reason": reason,
        "proof": row.id,
        "runtime": row.runtime,
        "size": row.size,
        "product_ms": row.product_ms,
        "memory_mib": row.memory_mib if reason is None else None,
        "as_of": at,
    }
    statement = upsert(DeviceFactRow).values(miner=row.miner, uuid=row.uuid, **fact)
    await uow.session.execute(statement.on_conflict_do_update(index_elements=["miner", "uuid"], set_=fact))
    await _look_anew(uow, row.miner)


async def _look_anew(uow: UnitOfWork, miner: str) -> None:
    """Have the miner's GPUs recorded, and matching told, with its next heartbeat."""
    await uow.session.execute(update(MinerRow).where(MinerRow.id == miner).values(devices=None))


def _view(row: ProofRow) -> Proof:
    return Proof(
        id=row.id,
        gpu=row.uuid,
        step=row.step,  # type: ignore[arg-type]
        seed=row.seed,
        size=row.size,
        memory_mib=row.memory_mib,
        picked=tuple(msgspec.json.decode(row.picked, type=list[int]) if row.picked else ()),
        due_at=row.due_at,
        reason=row.reason,
    )
