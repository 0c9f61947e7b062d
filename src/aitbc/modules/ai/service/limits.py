"""How much one account may have at once, and how long what it stored is kept: settings that governance may change."""

from aitbc.kernel.parameters import Parameter, Parameters
from aitbc.modules.ai.service.settings import AiSettings

DAY = 86_400


def _limit(setting: str, text: str, unit: str, bounds: tuple[int, int], default: int) -> Parameter:
    least, most = bounds
    return Parameter(
        name=f"ai.{setting}", text=text, unit=unit, least=least, most=most, default=default, setting=(setting,)
    )


LIMIT_PARAMETERS = (
    _limit("open_jobs_per_account", "How many jobs of one account are open at once.", "jobs", (1, 10**7), 10_000),
    _limit("open_graphs_per_account", "How many graphs of one account are open at once.", "graphs", (1, 10**5), 100),
    _limit("uploads_per_account", "How many uploads of one account go on at once.", "uploads", (1, 10_000), 32),
    _limit("artifact_quota_bytes", "What the artifacts of one account may weigh.", "bytes", (2**20, 2**50), 2**30),
    _limit("artifact_retention_seconds", "How long artifacts are kept.", "seconds", (3_600, 3_650 * DAY), 7 * DAY),
)


class Limits:
    """What holds now: what governance gave, else the operator's settings."""

    def __init__(self, settings: AiSettings, parameters: Parameters) -> None:
        self._settings = settings
        self._parameters = parameters

    @property
    def open_jobs_per_account(self) -> int:
        """How many jobs of one account may wait or be worked on at once."""
        return self._parameters.value("ai.open_jobs_per_account", self._settings.open_jobs_per_account)

    @property
    def open_graphs_per_account(self) -> int:
        """How many graphs of one account may be under way at once."""
        return self._parameters.value("ai.open_graphs_per_account", self._settings.open_graphs_per_account)

    @property
    def uploads_per_account(self) -> int:
        """How many uploads of one account, or of one lease, may be under way at once."""
        return self._parameters.value("ai.uploads_per_account", self._settings.uploads_per_account)

    @property
    def artifact_bytes_max(self) -> int:
        """What one artifact may weigh; the operator's alone."""
        return self._settings.artifact_bytes_max

    @property
    def artifact_quota_bytes(self) -> int:
        """What the artifacts of one account may weigh together."""
        return self._parameters.value("ai.artifact_quota_bytes", self._settings.artifact_quota_bytes)

    @property
    def artifact_retention_seconds(self) -> int:
        """How long an artifact is kept after its upload."""
        return self._parameters.value("ai.artifact_retention_seconds", self._settings.artifact_retention_seconds)
