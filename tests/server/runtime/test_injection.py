"""What a module's service is given: by the names of its parameters, and nothing is left out unseen."""

from dataclasses import replace
from typing import Any, cast

import pytest

from aitbc.app import MODULES
from aitbc.server.runtime.wiring import _service


def test_a_parameter_that_nobody_gives_is_refused_though_it_has_a_default() -> None:
    class Misnamed:
        def __init__(self, db: object, given: object = None) -> None: ...

    module = replace(MODULES[-1], service=cast("Any", Misnamed))
    nothing = cast("Any", None)
    with pytest.raises(TypeError, match=f"{module.name} wants given"):
        _service(module, nothing, nothing, None, {})
