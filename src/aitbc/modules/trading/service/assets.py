"""Assets: what accounts may have beside AITBC, and what an account has in each; all of it is play money."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotFound
from aitbc.kernel.primitives.money import ASSET, render
from aitbc.modules.trading.api import HolderNotFound
from aitbc.modules.trading.models.tables import AccountRow, AssetRow
from aitbc.modules.trading.models.views import AccountAsset, LedgerAsset

ASSETS_MAX = 100
"""How many assets there may be: all of them are listed at once."""


class AssetNotFound(NotFound):
    """There is no such asset here; `GET /api/v1/trading/assets` lists them."""

    code = "asset_not_found"


class AssetDiffers(Conflict):
    """There is an asset of this code with another name; what it is called does not change."""

    code = "asset_differs"


class TooManyAssets(Conflict):
    """There are as many assets as there may be."""

    code = "too_many_assets"


class Assets:
    """Defines assets, and says what accounts have of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def define(self, who: Principal, code: str, name: str) -> LedgerAsset:
        """Let accounts have something new; the same again changes nothing. Raises `AssetDiffers`, `TooManyAssets`."""
        async with self._database.unit_of_work() as uow:
            known = (await uow.session.scalars(select(AssetRow.code))).all()
            if len(known) >= ASSETS_MAX and code not in known:
                raise TooManyAssets
            made = insert(AssetRow).values(code=code, name=name, created_at=now()).on_conflict_do_nothing()
            if code != ASSET and (await uow.session.scalar(made.returning(AssetRow.code))) is not None:
                await uow.audit(who.account, who.key, "asset.define", code, name=name)
            row = await uow.session.get(AssetRow, code)
            if row is None or row.name != name:
                raise AssetDiffers
            return _view(row)

    async def all(self) -> Sequence[LedgerAsset]:
        """Every asset: AITBC first, then in the order of their codes."""
        async with self._database.reading() as session:
            rows = (await session.scalars(select(AssetRow).order_by(AssetRow.code))).all()
        return [LedgerAsset(code=ASSET, name=ASSET, created_at=None), *map(_view, rows)]

    async def of_account(self, who: Principal, account: str) -> Sequence[AccountAsset]:
        """What an account has in each asset that it ever had. Raises `HolderNotFound` for somebody else's."""
        if not ids.is_id("acct", account) or not who.owns(account):
            raise HolderNotFound
        mine = select(AccountRow).where(AccountRow.owner == account, AccountRow.purpose == "main")
        async with self._database.reading() as session:
            rows = (await session.scalars(mine)).all()
        found = [_held(row) for row in rows if row.asset == ASSET or row.version]
        if not any(one.asset == ASSET for one in found):
            found.append(AccountAsset(asset=ASSET, available="0", held="0", owned="0", entries=0))
        return sorted(found, key=lambda one: (one.asset != ASSET, one.asset))


async def require_asset(uow: UnitOfWork, code: str) -> None:
    """Raises `AssetNotFound` for what accounts cannot have."""
    if code != ASSET and await uow.session.get(AssetRow, code) is None:
        raise AssetNotFound


def _view(row: AssetRow) -> LedgerAsset:
    return LedgerAsset(code=row.code, name=row.name, created_at=row.created_at)


def _held(row: AccountRow) -> AccountAsset:
    return AccountAsset(
        asset=row.asset,
        available=render(row.balance_units),
        held=render(row.held_units),
        owned=render(row.balance_units + row.held_units),
        entries=row.version,
    )
