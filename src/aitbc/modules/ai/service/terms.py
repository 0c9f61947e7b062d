"""The terms on which work is taken now: what the settings say, unless governance has changed it."""

from aitbc.kernel.parameters import Parameter, Parameters, pause_of
from aitbc.modules.ai.models.kinds.kind import Kind
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.service.limits import LIMIT_PARAMETERS
from aitbc.modules.ai.service.settings import AiSettings

UNIT_PRICE_MOST = 100 * 10**8
"""The most that governance may let one unit cost, in minor units."""
PRICE_NAMES = {kind: f"ai.unit_price.{kind}" for kind in KINDS}
KEPT_MOST_SECONDS = 90 * 86_400
OFF_PEAK, RETENTION = "ai.off_peak_percent", "ai.payload_retention_seconds"
AI_PARAMETERS = (
    pause_of("ai"),
    *LIMIT_PARAMETERS,
    Parameter(
        name=OFF_PEAK,
        text="What the lines of a batch cost, of the price at once.",
        unit="percent",
        least=1,
        most=100,
        default=50,
        setting=("off_peak_percent",),
    ),
    Parameter(
        name=RETENTION,
        text="The longest that inputs, outputs and logs are kept of jobs that are submitted from then on.",
        unit="seconds",
        least=3_600,
        most=KEPT_MOST_SECONDS,
        default=KEPT_MOST_SECONDS,
        setting=("payload_retention_seconds",),
    ),
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
        self._settings = settings
        self._parameters = parameters

    def unit_price(self, kind: Kind) -> int:
        """The price of one unit, in minor units of money."""
        operators = self._settings.unit_prices.get(kind.name, kind.unit_price_units)
        name = PRICE_NAMES.get(kind.name)  # packages' kinds are priced by them and by the operator
        return operators if name is None else self._parameters.value(name, operators)

    def off_peak(self, unit_price_units: int) -> int:
        """The price of one unit of what can wait: a share of the price at once, rounded up."""
        percent = self._parameters.value(OFF_PEAK, self._settings.off_peak_percent)
        return -(-unit_price_units * percent // 100)

    def kept_seconds(self, wanted: int) -> int:
        """How long what a job is asked and answered is kept after its end, of the seconds that it asks for."""
        return min(wanted, self._parameters.value(RETENTION, self._settings.payload_retention_seconds))

    def require_open(self) -> None:
        """Raises `ModulePaused` while governance has new work stopped."""
        self._parameters.require_open("ai")
