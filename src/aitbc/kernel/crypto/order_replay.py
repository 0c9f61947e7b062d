"""Orders of the exchange, replayed from the records that hold, trade and return their money.

    order   = what an order sells goes from its account into escrow; `reference` is the order
    trade   = what two orders agreed on goes out of escrow to both, less a fee; `reference` is `maker taker`
    cancel  = what is left of an order goes back; `reference` is the order

Like kernel/crypto/chain_format.py it needs no server, no database and no package but PyNaCl.
"""

from dataclasses import dataclass, field
from typing import Any

from aitbc.kernel.crypto.chain_format import ESCROW, FEES, MAIN, SYSTEM, ChainError
from aitbc.kernel.crypto.entry_accounts import asset_suffix

ORDER_KINDS = frozenset({"order", "trade", "cancel"})


@dataclass
class OrderReplay:
    """What lies in escrow for each open order. Memory grows with the open orders only."""

    open: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By order: the account that it sells from, and how much of it lies in escrow."""
    trades: int = 0

    def apply(self, record: dict[str, Any], moved: dict[str, int]) -> None:
        """Apply a record of one of these kinds, with what it moved by account. Raises `ChainError`."""
        if record["hold"] is not None or not isinstance(record["reference"], str):
            raise ChainError("an order is named by the reference", field="reference")
        if record["kind"] == "order":
            self._place(record["reference"], moved)
        elif record["kind"] == "cancel":
            self._cancel(record["reference"], moved)
        else:
            self._trade(record["reference"], moved)

    def _place(self, order: str, moved: dict[str, int]) -> None:
        payers = [account for account in moved if not account.startswith(SYSTEM)]
        amount = moved.get(ESCROW + asset_suffix(payers[0]), 0) if len(payers) == 1 else 0
        if order in self.open or len(moved) != 2 or amount <= 0 or not _is_main(payers[0]):
            raise ChainError("the order cannot be placed", field="entries")
        self.open[order] = (payers[0], amount)

    def _cancel(self, order: str, moved: dict[str, int]) -> None:
        payer, amount = self.open.pop(order, ("", 0))
        if not amount or moved != {ESCROW + asset_suffix(payer): -amount, payer: amount}:
            raise ChainError("what was left of the order did not return", field="entries")

    def _trade(self, orders: str, moved: dict[str, int]) -> None:
        maker, _, taker = orders.partition(" ")
        if maker == taker or maker not in self.open or taker not in self.open:
            raise ChainError("the orders that traded were not open", field="reference")
        payers = {order: self.open[order][0] for order in (maker, taker)}
        assets = {order: asset_suffix(payer) for order, payer in payers.items()}
        owners = [payer.partition("/")[0] for payer in payers.values()]
        parties = {f"{owner}{MAIN}{asset}" for owner in owners for asset in assets.values()}
        if len(set(assets.values())) != 2 or len(set(owners)) != 2:
            raise ChainError("the orders do not sell different assets of different owners", field="entries")
        for order, asset in assets.items():
            taken = -moved.get(ESCROW + asset, 0)
            payer, amount = self.open[order]
            if not 0 < taken <= amount:
                raise ChainError("the trade took more than the order holds", field="entries")
            self.open[order] = (payer, amount - taken)
            if amount == taken:
                del self.open[order]
        paid = {account: amount for account, amount in moved.items() if not account.startswith(ESCROW)}
        fees = {FEES + asset for asset in assets.values()}
        if min(paid.values()) < 0 or not paid.keys() <= parties | fees:
            raise ChainError("the trade paid somebody else", field="entries")
        self.trades += 1


def _is_main(account: str) -> bool:
    return account.partition(":")[0].endswith(MAIN)
