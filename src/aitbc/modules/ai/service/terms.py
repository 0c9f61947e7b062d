"""The terms on which work is taken now: what the settings say, unless governance has changed it."""

from aitbc.kernel.parameters import Parameter, Parameters, pause_of
from aitbc.modules.ai.models.kinds.kind import Kind
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.service.settings import AiSettings

UNIT_PRICE_MOST = 100 * 10**8
"""The most that governance may let one unit cost, in minor units."""
PRICE_NAMES = {kind: f"ai.unit_price.{kind}" for kind in KINDS}
AI_PARAMETERS = (
    pause_of("ai"),
    *(
        Parameter(
            name=PRICE_NAMES[kind.name],
            text=f"What one unit of {kind.name} costs where no offer of a miner says otherwise.",
            unit="minor units",
            least=0,
            most=UNIT_PRICE_MOST,
            default=kind.unit_price_units,
            setting=("unit_prices", kind.name),
        )
        for kind in KINDS.values()
    ),
)


class Terms:
    """Prices of the platform, and whether new work is taken."""

    def __init__(self, settings: AiSettings, parameters: Parameters) -> None:
        self._unit_prices = settings.unit_prices
        self._off_peak_percent = settings.off_peak_percent
        self._parameters = parameters

    def unit_price(self, kind: Kind) -> int:
        """The price of one unit, in minor units of money."""
        operators = self._unit_prices.get(kind.name, kind.unit_price_units)
        return self._parameters.value(PRICE_NAMES[kind.name], operators)

    def off_peak(self, unit_price_units: int) -> int:
        """The price of one unit of what can wait: a share of the price at once, rounded up."""
        return -(-unit_price_units * self._off_peak_percent // 100)

    def require_open(self) -> None:
        """Raises `ModulePaused` while governance has new work stopped."""
        self._parameters.require_open("ai")
