"""The words that the legacy dialect has for our states, as a table read in both directions."""

from collections.abc import Mapping

from aitbc.kernel.legacy.errors import invalid

NO_ALIASES: Mapping[str, str] = {}


class StateNames:
    """One table: several states may share a word, and a word may have other spellings that are understood."""

    def __init__(self, words: Mapping[str, str], aliases: Mapping[str, str] = NO_ALIASES) -> None:
        """`words` gives each state its word; `aliases` gives each further spelling, in lower case, the word it
        stands for."""
        self._words = dict(words)
        self._states: dict[str, tuple[str, ...]] = {}
        for state, word in words.items():
            self._states[word.lower()] = (*self._states.get(word.lower(), ()), str(state))
        self._states |= {spelling: self._states[word.lower()] for spelling, word in aliases.items()}

    def word(self, state: str) -> str:
        """The word for a state of the table."""
        return self._words[state]

    def states(self, word: str) -> tuple[str, ...]:
        """The states behind a word in any letter case; none behind an unknown one."""
        return self._states.get(word.lower(), ())

    def known_states(self, word: str, field: str) -> tuple[str, ...]:
        """The states behind a word in any letter case. Raises `Invalid` at `field` for an unknown one."""
        found = self.states(word)
        if not found:
            raise invalid(field, f"Expected one of {', '.join(self._states)}")
        return found
