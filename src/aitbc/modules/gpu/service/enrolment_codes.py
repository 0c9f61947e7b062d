"""Enrolment by a code: a machine without any secret asks, shows a short code, and its owner approves it, signed in.

The machine makes its token itself and tells it with each question; only its digest is kept. An approval makes an
enrolment token of that digest, with which the machine then enrols like any other.
"""

import secrets
from datetime import datetime, timedelta
from typing import Annotated, ClassVar

from msgspec import Meta, Struct
from sqlalchemy import delete, func, select

from aitbc.kernel.crypto.api_key import fingerprint, well_formed
from aitbc.kernel.crypto.signing import key_fingerprint
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotFound, TooMany
from aitbc.kernel.primitives.ids import new_id
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.secret import masked
from aitbc.kernel.primitives.text import Name
from aitbc.modules.gpu.models.tables import EnrolmentCodeRow, EnrolmentTokenRow
from aitbc.modules.gpu.service.enrolment import Enrolment, InvalidEnrolmentToken, PublicKey

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so that no code is a word; no digits, which are read for letters."""
HALF = 4
CODE_LIFE = timedelta(minutes=10)
TOKEN_LIFE = timedelta(minutes=10)
"""How long a machine whose code was approved may take to come."""
KEPT = timedelta(days=1)
WAITING_MAX = 1000
"""How many codes may wait at one time, of all machines together."""
POLL_SECONDS = 3.0
STATES = ("waiting", "approved", "denied", "expired")


class EnrolmentCodeNotFound(NotFound):
    """No machine shows this code, or it has expired; the machine can ask for a new one."""

    code = "enrolment_code_not_found"


class EnrolmentCodeAnswered(Conflict):
    """This code was approved or denied before."""

    code = "enrolment_code_answered"


class TooManyEnrolmentCodes(TooMany):
    """So many machines wait for their codes to be approved that no more may ask now; use an enrolment token."""

    code = "too_many_enrolment_codes"


class AskForCode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine that asks to be let in; sent again it asks what became of that."""

    takes_keys: ClassVar = frozenset({"token"})
    token: Annotated[str, Meta(max_length=100)]
    """A token that the machine made for itself, of the form of enrolment tokens. For example `aitbc_enrol_…`."""
    public_key: PublicKey
    """The key that it will enrol with, Ed25519 in base64url."""
    name: Name
    """What it is called. For example `attic`."""

    def __repr__(self) -> str:
        return masked(self, "token")


class EnrolmentCode(Struct, frozen=True, kw_only=True):
    """A code that a machine shows, and what became of it."""

    code: str
    """The code. For example `BCDF-GHJK`."""
    state: Annotated[str, one_of(STATES)]
    """`waiting` until it is `approved` or `denied`, or has `expired`. For example `waiting`."""
    name: str
    """What the machine is called. For example `attic`."""
    fingerprint: str
    """Of its public key; the machine shows the same.
    For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    path: str
    """The page of this server where its owner approves it. For example `/miners/approve?code=BCDF-GHJK`."""
    poll_seconds: float
    """How many seconds the machine waits before it asks again. For example `3`."""
    created_at: datetime
    """When the machine asked."""
    expires_at: datetime
    """Until when it can be approved."""


class EnrolmentCodes:
    """The codes that machines show, and the answers of their owners."""

    def __init__(self, db: Database, enrolment: Enrolment) -> None:
        self._db = db
        self._enrolment = enrolment

    @retrying
    async def ask(self, wanted: AskForCode) -> EnrolmentCode:
        """The code of a machine, a new one at its first question; the same token and key get the same.

        Raises `InvalidEnrolmentToken` for what is no token, or another machine's, and `TooManyEnrolmentCodes`.
        """
        if not wanted.token.startswith("aitbc_enrol_") or not well_formed(wanted.token):
            raise InvalidEnrolmentToken
        digest, shown, at = fingerprint(wanted.token), key_fingerprint(wanted.public_key), now()
        async with self._db.unit_of_work() as uow:
            asked = select(EnrolmentCodeRow).where(EnrolmentCodeRow.digest == digest)
            if (row := await uow.session.scalar(asked)) is not None:
                if row.fingerprint != shown:
                    raise InvalidEnrolmentToken
                return _view(row)
            token = select(EnrolmentTokenRow.id).where(EnrolmentTokenRow.digest == digest)
            if await uow.session.scalar(token) is not None:
                raise InvalidEnrolmentToken
            await uow.session.execute(delete(EnrolmentCodeRow).where(EnrolmentCodeRow.expires_at < at - KEPT))
            waiting = select(func.count()).where(EnrolmentCodeRow.expires_at > at)
            if (await uow.session.scalar(waiting) or 0) >= WAITING_MAX:
                raise TooManyEnrolmentCodes
            row = EnrolmentCodeRow(
                id=new_id("ecod"),
                code=_new_code(),
                digest=digest,
                name=wanted.name,
                fingerprint=shown,
                created_at=at,
                expires_at=at + CODE_LIFE,
            )
            uow.add(row)
            return _view(row)

    async def get(self, code: str) -> EnrolmentCode:
        """The machine that shows a code. Raises `EnrolmentCodeNotFound`."""
        async with self._db.unit_of_work() as uow:
            return _view(await _shown(uow, code))

    @retrying
    async def approve(self, who: Principal, code: str) -> EnrolmentCode:
        """Let the machine that shows a code in as a miner of the caller's account; again changes nothing.

        Raises `EnrolmentCodeNotFound`, `EnrolmentCodeAnswered`, `KeyBeingReplaced`.
        """
        key_end = await self._enrolment.end_of_maker(who)
        async with self._db.unit_of_work() as uow:
            row = await _shown(uow, code, lock=True)
            if row.answered_at is None:
                at = now()
                token = EnrolmentTokenRow(
                    id=new_id("tok"),
                    account=who.account,
                    digest=row.digest,
                    created_at=at,
                    expires_at=min(at + TOKEN_LIFE, key_end),
                )
                uow.add(token)
                row.answered_at, row.account, row.token = at, who.account, token.id
                await uow.audit(who.account, who.key, "enrolment_code.approve", row.id, name=row.name, token=token.id)
            elif row.account != who.account or row.token is None:
                raise EnrolmentCodeAnswered
            return _view(row)

    @retrying
    async def deny(self, who: Principal, code: str) -> EnrolmentCode:
        """Let the machine that shows a code not in; again changes nothing.

        Raises `EnrolmentCodeNotFound`, `EnrolmentCodeAnswered`.
        """
        async with self._db.unit_of_work() as uow:
            row = await _shown(uow, code, lock=True)
            if row.answered_at is None:
                row.answered_at, row.account = now(), who.account
                await uow.audit(who.account, who.key, "enrolment_code.deny", row.id, name=row.name)
            elif row.account != who.account or row.token is not None:
                raise EnrolmentCodeAnswered
            return _view(row)


def _new_code() -> str:
    letters = [secrets.choice(LETTERS) for _ in range(2 * HALF)]
    return f"{''.join(letters[:HALF])}-{''.join(letters[HALF:])}"


def _normal(code: str) -> str:
    """A code as it is kept, in whatever case and with whatever spaces it was typed. Raises `EnrolmentCodeNotFound`."""
    letters = code.upper().replace("-", "").replace(" ", "")
    if not set(letters) <= set(LETTERS):
        raise EnrolmentCodeNotFound
    return f"{letters[:HALF]}-{letters[HALF:]}"


async def _shown(uow: UnitOfWork, code: str, *, lock: bool = False) -> EnrolmentCodeRow:
    query = select(EnrolmentCodeRow).where(EnrolmentCodeRow.code == _normal(code), EnrolmentCodeRow.expires_at > now())
    row = await uow.session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise EnrolmentCodeNotFound
    return row


def _view(row: EnrolmentCodeRow) -> EnrolmentCode:
    state = "waiting" if row.expires_at > now() else "expired"
    if row.answered_at is not None:
        state = "denied" if row.token is None else "approved"
    return EnrolmentCode(
        code=row.code,
        state=state,
        name=row.name,
        fingerprint=row.fingerprint,
        path=f"/miners/approve?code={row.code}",
        poll_seconds=POLL_SECONDS,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
