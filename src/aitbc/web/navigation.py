"""The pages that the menu names, and the scope that a key needs for each."""

from msgspec import Struct

from aitbc.kernel.identity.principal import Principal


class Entry(Struct, frozen=True):
    """An entry of the menu."""

    label: str
    path: str
    scope: str
    """Who lacks it is not shown the entry; the API decides what they may see in any case."""
    further: tuple[str, ...] = ()
    """Where its other pages begin."""

    def holds(self, path: str) -> bool:
        """Whether a page belongs to this entry."""
        places: tuple[str, ...] = () if self.path == "/" else (self.path, *self.further)
        return path == self.path or path.startswith(places)


MENU = (
    Entry("Overview", "/", "chain:read"),
    Entry("Work", "/jobs", "jobs:read", ("/graphs", "/studies")),
    Entry("Miners", "/miners", "miners:read"),
    Entry("Market", "/market", "market:read"),
    Entry("Trades", "/trades", "trades:read"),
    Entry("Agents", "/agents", "agents:read"),
    Entry("Plugins", "/plugins", "plugins:read"),
    Entry("Governance", "/proposals", "governance:read"),
    Entry("Explorer", "/explorer", "chain:read"),
    Entry("Account", "/account", "self:read"),
    Entry("Operator", "/operator", "audit:read"),
)


def menu_of(who: Principal) -> list[Entry]:
    """The entries for a caller."""
    return [entry for entry in MENU if who.may(entry.scope)]
