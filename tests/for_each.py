"""One test for a property that many things must have: it looks at all of them, and names every one that lacks it."""

from collections.abc import Callable, Iterable
from inspect import Signature, iscoroutinefunction, signature
from typing import Any


def for_each(subjects: Iterable[Any], name: Callable[[Any], str] = str) -> Callable[[Callable[..., Any]], Any]:
    """The property is checked for each subject, which is the first parameter of the check; the others are fixtures."""
    named = [(name(subject), subject) for subject in subjects]
    assert named, "nothing to look at"

    def decorate(check: Callable[..., Any]) -> Any:
        first, *fixtures = signature(check).parameters.values()

        def test(**given: Any) -> None:
            faults = []
            for each, subject in named:
                try:
                    check(**{first.name: subject}, **given)
                except Exception as fault:  # noqa: BLE001 - named below, with those of the others
                    faults.append(f"{each}: {type(fault).__name__}: {fault}")
            assert not faults, "\n".join(faults)

        async def async_test(**given: Any) -> None:
            faults = []
            for each, subject in named:
                try:
                    await check(**{first.name: subject}, **given)
                except Exception as fault:  # noqa: BLE001 - named below, with those of the others
                    faults.append(f"{each}: {type(fault).__name__}: {fault}")
            assert not faults, "\n".join(faults)

        made: Any = async_test if iscoroutinefunction(check) else test
        made.__name__, made.__qualname__, made.__module__ = check.__name__, check.__qualname__, check.__module__
        made.__signature__ = Signature(fixtures)
        return made

    return decorate
