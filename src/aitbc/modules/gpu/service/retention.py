"""How long gpu keeps what it wrote down: periods that governance may change."""

from datetime import timedelta

from aitbc.kernel.parameters import Parameter, Parameters
from aitbc.modules.gpu.models.readings import Step

MINUTES, HOURS, PROOFS = "gpu.minute_readings_hours", "gpu.hour_readings_days", "gpu.proofs_kept_days"
RETENTION_PARAMETERS = (
    Parameter(
        name=MINUTES, text="How long readings by the minute are kept.", unit="hours", least=2, most=744, default=24
    ),
    Parameter(name=HOURS, text="How long readings by the hour are kept.", unit="days", least=1, most=3_650, default=90),
    Parameter(name=PROOFS, text="How long proofs of hardware are kept.", unit="days", least=1, most=3_650, default=30),
)


class Retention:
    """What holds now."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters

    def of_readings(self, step: Step) -> timedelta:
        """How long readings of a step are kept."""
        if step is Step.MINUTE:
            return timedelta(hours=self._parameters.value(MINUTES, 24))
        return timedelta(days=self._parameters.value(HOURS, 90))

    def of_proofs(self) -> timedelta:
        """How long proofs of hardware are kept."""
        return timedelta(days=self._parameters.value(PROOFS, 30))
