"""Live parameters, as they hold in this process."""

from collections.abc import Sequence

from aitbc.kernel.parameters import Parameters
from aitbc.modules.governance.models.views import GovernanceParameter, parameter_view
from aitbc.modules.governance.service.refusals import ParameterNotFound


class LiveParameters:
    """Shows what governance may change, and where each value comes from."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters

    def all(self) -> Sequence[GovernanceParameter]:
        """Every parameter, by name."""
        return [parameter_view(shown) for shown in self._parameters.shown()]

    def one(self, name: str) -> GovernanceParameter:
        """One parameter. Raises `ParameterNotFound`."""
        if name not in self._parameters.declared:
            raise ParameterNotFound
        return parameter_view(self._parameters.one(name))
