"""Error codes: each names one class."""

import pytest

from aitbc.kernel.primitives.errors import AppError, NotFound


def test_a_code_that_another_class_has_is_refused_even_under_the_same_name() -> None:
    for module, name in (("elsewhere", "NotFound"), (NotFound.__module__, "Other")):
        with pytest.raises(TypeError, match=r"belongs to aitbc\.kernel\.primitives\.errors\.NotFound"):
            type(name, (AppError,), {"__module__": module, "__qualname__": name, "code": NotFound.code})
    assert AppError.registry[NotFound.code] is NotFound
