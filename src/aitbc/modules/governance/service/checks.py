"""Checks of a proposal's actions: the same when it is made and when it is executed."""

from collections.abc import Sequence

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.platform import Platform
from aitbc.kernel.primitives.money import parse
from aitbc.modules.governance.events import PluginRuled
from aitbc.modules.governance.models.actions import (
    Action,
    NobodyHears,
    Pay,
    SetBudget,
    check_actions,
    rulings_of,
    settings_of,
)
from aitbc.modules.governance.models.tables import BudgetLineRow
from aitbc.modules.governance.service.refusals import BudgetLineExceeded, BudgetLineNotFound, PayeeNotFound
from aitbc.modules.governance.service.settings import Rulebook


class Checks:
    """Says whether actions can take effect."""

    def __init__(self, db: Database, rules: Rulebook, platform: Platform) -> None:
        self._db = db
        self._rules = rules
        self._platform = platform

    async def require(self, class_: str, actions: Sequence[Action]) -> None:
        """Raises what refuses them: names, ranges, accounts and budget lines, a line opened by them included.

        Raises `NobodyHears` for plugins where no module of this installation heeds what is decided about them.
        """
        check_actions(class_, actions, self._platform.parameters)
        for plugin in rulings_of(actions):
            if PluginRuled.kind not in self._platform.heard:
                raise NobodyHears(
                    f"No module that is installed here runs plugins: nobody hears what becomes of {plugin}."
                )
        self._rules.check_unlocking(dict(settings_of(actions)))
        limits = {action.line: parse(action.limit, zero=True) for action in actions if isinstance(action, SetBudget)}
        spent: dict[str, int] = {}
        for action in actions:
            if isinstance(action, Pay):
                if not await self._platform.identity.has_account(action.to):
                    raise PayeeNotFound
                spent[action.line] = spent.get(action.line, 0) + parse(action.amount)
        for line, units in spent.items():
            async with self._db.reading() as session:
                row = await session.get(BudgetLineRow, line)
            if row is None and line not in limits:
                raise BudgetLineNotFound
            used = 0 if row is None else row.paid_units + row.promised_units
            limit = limits.get(line, 0 if row is None else row.limit_units)
            if used + units > limit:
                raise BudgetLineExceeded(f"The budget line {line} does not cover this.")
