"""Enrolment: a token that its owner hands to a machine, and the machine that comes with it and a key of its own."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import func, select

from aitbc.kernel.crypto.api_key import fingerprint, new_key, well_formed
from aitbc.kernel.crypto.signing import canonical, enrolment_statement, key_fingerprint, verify
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, FieldError, Forbidden, Invalid, TooMany
from aitbc.kernel.primitives.ids import new_id
from aitbc.kernel.primitives.secret import masked
from aitbc.kernel.primitives.text import Name
from aitbc.modules.gpu.api import SLOTS_MAX, Inventory
from aitbc.modules.gpu.models.life import Status
from aitbc.modules.gpu.models.offer import Offer
from aitbc.modules.gpu.models.tables import EnrolmentTokenRow, MinerRow, ProfileRow, StatusChangeRow
from aitbc.modules.gpu.service.miner_rows import renew_profile
from aitbc.modules.gpu.service.settings import GpuSettings

TOKEN_SECONDS = 3600
Slots = Annotated[int, Meta(ge=1, le=SLOTS_MAX, description="How many jobs the miner works on at one time.")]
PublicKey = Annotated[
    str,
    Meta(max_length=43, pattern=r"^[A-Za-z0-9_-]{43}\Z", description="Ed25519, url-safe base 64 without padding."),
    Meta(extra_json_schema={"pattern": "^[A-Za-z0-9_-]{43}$"}),
]
Signature = Annotated[
    str,
    Meta(max_length=86, pattern=r"^[A-Za-z0-9_-]{86}\Z", description="Ed25519, url-safe base 64 without padding."),
    Meta(extra_json_schema={"pattern": "^[A-Za-z0-9_-]{86}$"}),
]


class InvalidEnrolmentToken(Forbidden):
    """This enrolment token is unknown or has expired; its owner can make a new one."""

    code = "invalid_enrolment_token"


class EnrolmentTokenUsed(Conflict):
    """This enrolment token has enrolled another miner; each token enrols one."""

    code = "enrolment_token_used"


class PublicKeyTaken(Conflict):
    """A miner of another account has this public key; make a new key for this one."""

    code = "public_key_taken"


class TooManyTokens(TooMany):
    """So many enrolment tokens of this account wait for their miners that it gets no more.

    Use them or let them expire.
    """

    code = "too_many_enrolment_tokens"


class TooManyMiners(Conflict):
    """This account has as many miners as it may; remove one first."""

    code = "too_many_miners"


class WrongProof(Invalid):
    """The proof does not show that you hold the private key of this public key."""

    code = "wrong_proof"


class MakeEnrolmentToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the token may wait for its miner."""

    expires_seconds: Annotated[int, Meta(ge=60, le=86_400)] = TOKEN_SECONDS
    """In seconds. For example `3600`."""


class EnrolmentToken(Struct, frozen=True, kw_only=True):
    """A token that enrols one miner, shown this one time."""

    id: str
    """The token's id, which is no secret. For example `tok_01k0000000000000000000000a`."""
    token: str
    """The token. For example `aitbc_enrol_…`."""
    account: str
    """Whose miner it enrols. For example `acct_01k0000000000000000000000a`."""
    created_at: datetime
    """When it was made."""
    expires_at: datetime
    """Until when it can be used."""

    def __repr__(self) -> str:
        return masked(self, "token")


class Enrol(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine that wants to become a miner."""

    takes_keys: ClassVar = frozenset({"token"})
    token: Annotated[str, Meta(max_length=100)]
    """The one-time token of the owner. For example `aitbc_enrol_…`."""
    public_key: PublicKey
    """The miner's Ed25519 key, in base64url."""
    name: Name
    """What its owner calls it. For example `attic`."""
    proof: Signature
    """Over the canonical JSON of {public_key, statement: "aitbc.enrolment.v1", token}."""
    capabilities: Offer
    """What it can take."""
    slots: Slots
    """How many jobs it takes at once. For example `2`."""
    inventory: Inventory = Inventory()
    """What it found in itself."""

    def __repr__(self) -> str:
        return masked(self, "token")


class Enrolled(Struct, frozen=True, kw_only=True):
    """What a new miner needs to know. The API key is shown this one time."""

    miner: str
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    fingerprint: str
    """Of its public key: the owner sees the same.
    For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    api_key: str
    """Its key, to be sent as `Authorization: Bearer …`. For example `aitbc_live_…`."""
    api_key_expires_at: datetime
    """When that key ends."""
    account: str
    """Whose it is. For example `acct_01k0000000000000000000000a`."""
    heartbeat_seconds: float
    """Send a heartbeat each so many seconds. For example `10.0`."""

    def __repr__(self) -> str:
        return masked(self, "api_key")


class Enrolment:
    """Enrolment tokens, and the miners that enrol with them."""

    def __init__(self, db: Database, identity: Identity, settings: GpuSettings) -> None:
        self._db = db
        self._identity = identity
        self._settings = settings
        self._issuing = asyncio.Lock()
        """Held while a miner's old keys end and its new one is made."""

    async def end_of_maker(self, who: Principal) -> datetime:
        """When the key ends on whose word a machine is let in. Raises `KeyBeingReplaced`."""
        return await self._identity.end_of_maker(who)

    @retrying
    async def create_token(self, who: Principal, seconds: int = TOKEN_SECONDS) -> EnrolmentToken:
        """A token for one miner of the caller's account; only its digest is kept, and it ends with the caller's key.

        Raises `TooManyTokens`, `KeyBeingReplaced`.
        """
        key_end = await self.end_of_maker(who)
        secret, at = new_key("enrol"), now()
        row = EnrolmentTokenRow(
            id=new_id("tok"),
            account=who.account,
            digest=fingerprint(secret),
            created_at=at,
            expires_at=min(at + timedelta(seconds=seconds), key_end),
        )
        waiting = select(func.count()).where(
            EnrolmentTokenRow.account == who.account,
            EnrolmentTokenRow.used_at.is_(None),
            EnrolmentTokenRow.expires_at > at,
        )
        async with self._db.unit_of_work() as uow:
            if (await uow.session.execute(waiting)).scalar_one() >= self._settings.tokens_max:
                raise TooManyTokens
            uow.add(row)
            await uow.audit(who.account, who.key, "enrolment_token.create", row.id, expires_seconds=seconds)
        return EnrolmentToken(
            id=row.id, token=secret, account=row.account, created_at=row.created_at, expires_at=row.expires_at
        )

    async def enrol(self, command: Enrol, *, keys_end: datetime | None = None) -> Enrolled:
        """Make a miner of a machine that holds a token and a private key; its API key ends by `keys_end`, if given.

        Asking again for the same public key answers the same miner with a fresh API key and ends its earlier ones: a
        lost answer costs nothing. Raises `InvalidEnrolmentToken`, `EnrolmentTokenUsed`, `PublicKeyTaken`,
        `TooManyMiners`, `WrongProof`.
        """
        if not command.token.startswith("aitbc_enrol_") or not well_formed(command.token):
            raise InvalidEnrolmentToken
        _require_proof(command)
        token, miner = await self._enrol(command)
        by = Principal(token.account, token.id, "miner", frozenset(), miner)
        async with self._issuing:  # of two requests at once the later one's key is the one that stays
            await self._identity.revoke_subject(miner, by)
            lifetime = timedelta(days=self._settings.key_days)
            key = await self._identity.issue(
                account=token.account,
                kind="miner",
                name=command.name,
                subject=miner,
                lifetime=lifetime,
                ends_by=keys_end,
            )
        return Enrolled(
            miner=miner,
            fingerprint=key_fingerprint(command.public_key),
            api_key=key.secret,
            api_key_expires_at=key.expires_at,
            account=token.account,
            heartbeat_seconds=self._settings.heartbeat_seconds,
        )

    @retrying
    async def _enrol(self, command: Enrol) -> tuple[EnrolmentTokenRow, str]:
        """Use the token, once: its row is locked, so that of many requests one decides and the others find it
        decided.

        Of those with the same public key the quicker one makes the miner, and the retry of the other one finds it.
        """
        at = now()
        async with self._db.unit_of_work() as uow:
            digest = fingerprint(command.token)
            wanted = select(EnrolmentTokenRow).where(EnrolmentTokenRow.digest == digest).with_for_update()
            token = await uow.session.scalar(wanted)
            if token is None:
                raise InvalidEnrolmentToken
            alive = MinerRow.status != Status.REMOVED.value
            same_key = select(MinerRow).where(MinerRow.public_key == command.public_key, alive)
            row = await uow.session.scalar(same_key.with_for_update(key_share=True))
            if token.miner is not None and (row is None or row.id != token.miner):
                raise EnrolmentTokenUsed
            if token.expires_at <= at:
                raise InvalidEnrolmentToken
            if row is None:
                await self._require_room(uow, token.account)
                row = await _add_miner(uow, command, token.account, at)
            elif row.account != token.account:
                raise PublicKeyTaken
            else:
                row.name = command.name
                await renew_profile(
                    uow, row, offer=command.capabilities, slots=command.slots, inventory=command.inventory, at=at
                )
            token.used_at, token.miner = token.used_at or at, row.id
            shown = key_fingerprint(command.public_key)
            await uow.audit(token.account, token.id, "miner.enrol", row.id, name=row.name, fingerprint=shown)
        return token, row.id

    async def _require_room(self, uow: UnitOfWork, account: str) -> None:
        alive = MinerRow.status != Status.REMOVED.value
        count = await uow.session.execute(select(func.count()).where(MinerRow.account == account, alive))
        if count.scalar_one() >= self._settings.miners_max:
            raise TooManyMiners


async def _add_miner(uow: UnitOfWork, command: Enrol, account: str, at: datetime) -> MinerRow:
    row = MinerRow(
        id=new_id("mnr"),
        account=account,
        name=command.name,
        public_key=command.public_key,
        status=Status.ENROLLED,
        slots=command.slots,
        slots_busy=0,
        version=1,
        capabilities_version=1,
        created_at=at,
        changed_at=at,
    )
    uow.add(row)
    await uow.session.flush()
    offer, found = command.capabilities.stored(command.inventory), _text(command.inventory)
    machine = command.capabilities.stored_machine
    uow.add(ProfileRow(miner=row.id, capabilities=offer, inventory=found, machine=machine, updated_at=at))
    uow.add(StatusChangeRow(miner=row.id, at=at, status=row.status, reason=None))
    return row


def _require_proof(command: Enrol) -> None:
    statement = canonical(enrolment_statement(token=command.token, public_key=command.public_key))
    if not verify(command.public_key, statement, command.proof):
        raise WrongProof(fields=(FieldError("/proof", WrongProof.summary()),))


def _text(inventory: Inventory) -> str:
    return msgspec.json.encode(inventory).decode()
