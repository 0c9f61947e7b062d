"""How long the platform keeps rows of its own: periods that governance may change."""

from datetime import timedelta

from aitbc.kernel.identity.sessions import SESSION_LIFE
from aitbc.kernel.parameters import Parameter, Parameters

EVENTS, ANSWERS = "kernel.events_kept_hours", "kernel.answers_kept_hours"
SESSIONS, DELIVERIES = "kernel.session_life_hours", "webhooks.kept_days"
HOURS_KEPT = 24
"""Clients may repeat a command for a day, and an operator may replay an event for a day."""
SESSION_HOURS = SESSION_LIFE // timedelta(hours=1)
RETENTION_PARAMETERS = (
    Parameter(
        name=EVENTS,
        text="How long events are kept once they are delivered, and by whom they were handled.",
        unit="hours",
        least=HOURS_KEPT,
        most=2_160,
        default=HOURS_KEPT,
    ),
    Parameter(
        name=ANSWERS,
        text="How long the answer under an Idempotency-Key is kept: so long a command may be repeated.",
        unit="hours",
        least=HOURS_KEPT,
        most=2_160,
        default=HOURS_KEPT,
    ),
    Parameter(
        name=SESSIONS,
        text="How long a session of a browser that is opened from then on lasts at most.",
        unit="hours",
        least=1,
        most=SESSION_HOURS,
        default=SESSION_HOURS,
    ),
    Parameter(
        name=DELIVERIES,
        text="How long the log of webhooks keeps what was delivered, or given up.",
        unit="days",
        least=1,
        most=365,
        default=7,
        setting=("kept_days",),
    ),
)


class Retention:
    """What holds now."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters

    def of_events(self) -> timedelta:
        """How long delivered events are kept."""
        return timedelta(hours=self._parameters.of(EVENTS))

    def of_answers(self) -> timedelta:
        """How long stored answers are kept."""
        return timedelta(hours=self._parameters.of(ANSWERS))

    def of_sessions(self) -> timedelta:
        """How long a session that is opened now lasts at most."""
        return timedelta(hours=self._parameters.of(SESSIONS))

    def of_deliveries(self) -> timedelta:
        """How long deliveries that have ended are kept."""
        return timedelta(days=self._parameters.of(DELIVERIES))
