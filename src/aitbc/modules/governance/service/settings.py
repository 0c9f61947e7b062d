"""The settings of governance, and what of them it may change itself: all that decides proposals."""

from typing import Annotated

from msgspec import Meta, Struct

from aitbc.kernel.parameters import Parameter, Parameters
from aitbc.kernel.primitives.errors import Invalid
from aitbc.modules.governance.api import CLASSES
from aitbc.modules.governance.models.life import ALL

DAY = 86_400
UNIT = 10**8
MOST = 10**17
ClassUnits = dict[str, Annotated[int, Meta(ge=0, le=MOST)]]
ClassShare = dict[str, Annotated[int, Meta(ge=0, le=ALL)]]
ClassSeconds = dict[str, Annotated[int, Meta(ge=1, le=366 * DAY)]]


class GovernanceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How proposals are decided here, as long as they themselves say nothing else; by class where there are several."""

    quorum_units: ClassUnits = {}
    """By class, the least power that must vote, in minor units; 1000 AITBC unless said."""
    quorum_basis_points: ClassShare = {}
    """By class, the least share of all power that must vote; 80 % of emergencies unless said."""
    threshold_basis_points: ClassShare = {}
    """By class, the least share of `for` among `for` and `against`; 50 %, of emergencies 66.67 %."""
    delay_seconds: ClassSeconds = {}
    """By class, the time between a proposal and its voting; a day, of emergencies an hour."""
    voting_seconds: ClassSeconds = {}
    """By class, how long voting lasts; seven days, of emergencies three."""
    timelock_seconds: ClassSeconds = {}
    """By class, the time between a decision and its execution; two days, of emergencies four hours."""
    late_seconds: Annotated[int, Meta(ge=1, le=30 * DAY)] = DAY
    """How long voting lasts at least after the quorum was reached, once."""
    execution_seconds: Annotated[int, Meta(ge=1, le=366 * DAY)] = 14 * DAY
    """How long after its timelock a proposal may be executed before it expires."""
    unlock_seconds: Annotated[int, Meta(ge=1, le=366 * DAY)] = 14 * DAY
    """How long stake that is unlocked stays where it is; longer than voting and timelock of any class."""
    proposal_power_units: Annotated[int, Meta(ge=0, le=MOST)] = 100 * UNIT
    """The power that a proposal's supporters need when voting starts, in minor units."""
    deposit_units: Annotated[int, Meta(ge=0, le=MOST)] = 10 * UNIT
    """What a proposer deposits, in minor units."""
    deposit_policy: Annotated[int, Meta(ge=0, le=2)] = 1
    """When a deposit returns: 0 unless the proposal is vetoed, 1 when it passes, 2 never; what does not return goes to
    the treasury."""
    fee_share_basis_points: Annotated[int, Meta(ge=0, le=ALL)] = 0
    """The treasury's share of what the platform earns by fees."""


def _by_class(
    setting: str, text: str, unit: str, bounds: tuple[int, int], usual: int, emergency: int
) -> list[Parameter]:
    return [
        Parameter(
            name=f"governance.{setting}.{class_}",
            text=f"{text}, for the class {class_}.",
            unit=unit,
            least=bounds[0],
            most=bounds[1],
            default=emergency if class_ == "emergency" else usual,
            setting=(setting, class_),
        )
        for class_ in CLASSES
    ]


def _alone(setting: str, text: str, unit: str, bounds: tuple[int, int], usual: int) -> Parameter:
    name = f"governance.{setting}"
    return Parameter(
        name=name, text=text, unit=unit, least=bounds[0], most=bounds[1], default=usual, setting=(setting,)
    )


TIME = (1, 366 * DAY)
UNITS = (0, MOST)
GOVERNANCE_PARAMETERS = (
    *_by_class("quorum_units", "The least power that must vote", "minor units", UNITS, 1_000 * UNIT, 0),
    *_by_class(
        "quorum_basis_points", "The least share of all power that must vote", "basis points", (0, ALL), 0, 8_000
    ),
    *_by_class("threshold_basis_points", "The least share of for", "basis points", (1, ALL), 5_000, 6_667),
    *_by_class("delay_seconds", "The time between a proposal and its voting", "seconds", TIME, DAY, 3_600),
    *_by_class("voting_seconds", "How long voting lasts", "seconds", TIME, 7 * DAY, 3 * DAY),
    *_by_class("timelock_seconds", "The time between decision and execution", "seconds", TIME, 2 * DAY, 4 * 3_600),
    _alone("late_seconds", "How long voting lasts after the quorum was reached, once.", "seconds", (1, 30 * DAY), DAY),
    _alone("execution_seconds", "How long a proposal may be executed after its timelock.", "seconds", TIME, 14 * DAY),
    _alone("unlock_seconds", "How long unlocked stake stays where it is.", "seconds", TIME, 14 * DAY),
    _alone("proposal_power_units", "The power that a proposal needs.", "minor units", UNITS, 100 * UNIT),
    _alone("deposit_units", "What a proposer deposits.", "minor units", UNITS, 10 * UNIT),
    _alone("deposit_policy", "When deposits return: 0 always, 1 when passed, 2 never.", "number", (0, 2), 1),
    _alone("fee_share_basis_points", "The treasury's share of the fees.", "basis points", (0, ALL), 0),
)


class Rulebook:
    """What decides proposals now."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters

    def of(self, setting: str, class_: str | None = None) -> int:
        """The value of a rule now, of a class where there are several."""
        return self._parameters.of(f"governance.{setting}" + ("" if class_ is None else f".{class_}"))

    def check_unlocking(self, changes: dict[str, int | None]) -> None:
        """Raises `Invalid` where stake could be unlocked before what it voted for has happened."""

        def after(setting: str, class_: str | None = None) -> int:
            name = f"governance.{setting}" + ("" if class_ is None else f".{class_}")
            wanted = changes.get(name)
            return self._parameters.of(name) if wanted is None else wanted

        longest = max(after("voting_seconds", one) + after("timelock_seconds", one) for one in CLASSES)
        touched = any(name.startswith("governance.") and name.endswith(_TIMES) for name in changes)
        if touched and after("unlock_seconds") <= longest:
            raise Invalid("Unlocking stake must take longer than voting and timelock of any class.")


_TIMES = (
    "unlock_seconds",
    *(f"{setting}.{class_}" for setting in ("voting_seconds", "timelock_seconds") for class_ in CLASSES),
)
