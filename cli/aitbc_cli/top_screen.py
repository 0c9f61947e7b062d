"""The screen of `aitbc top` where Textual is installed: tables that stay where one reads, and keys."""

from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Static

from aitbc_cli.exits import Stop
from aitbc_cli.terminal import safe

COLOURS = {"up": "green", "degraded": "yellow", "down": "bold red", "unknown": "yellow", "maintenance": "blue"}
SEVERITIES = {"critical": "bold red", "warning": "yellow", "info": "blue"}
MONITORS = ("Monitor", "State", "Seconds", "Since", "Reason")
ALERTS = ("Severity", "Rule", "Reason", "Fired")
Look = Callable[[], dict[str, Any]]


class TopScreen(App[None]):
    """What is wrong and how every part stands, looked at again and again."""

    CSS = "#head { padding: 0 1; } #alerts { max-height: 40%; height: auto; } #monitors { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        ("r", "look", "Look now"),
        ("w", "toggle_wrong", "Only what is wrong"),
    ]
    TITLE = "aitbc top"

    def __init__(self, look: Look, every_seconds: float) -> None:
        """`look` asks the server, and may block: it runs in a thread."""
        super().__init__()
        self._look = look
        self._every_seconds = every_seconds
        self._seen: dict[str, Any] | None = None
        self.only_wrong = False
        """Whether monitors that are up are left out."""

    def compose(self) -> ComposeResult:
        """A line that says all, the alerts, and the monitors."""
        yield Static("Looking …", id="head", markup=False)
        yield DataTable(id="alerts", cursor_type="none")
        yield DataTable(id="monitors", cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Look at once, and then again and again."""
        self.query_one("#alerts", DataTable).add_columns(*ALERTS)
        self.query_one("#monitors", DataTable).add_columns(*MONITORS)
        self.query_one("#monitors", DataTable).focus()
        self.set_interval(self._every_seconds, self.action_look)
        self.action_look()

    def action_look(self) -> None:
        """Look now, unless a look goes on."""
        self._ask()

    def action_toggle_wrong(self) -> None:
        """Show only what is wrong, or all again."""
        self.only_wrong = not self.only_wrong
        self._show()

    @work(thread=True, exclusive=True, exit_on_error=False)
    def _ask(self) -> None:
        try:
            seen = self._look()
        except Stop as stop:
            self.call_from_thread(self._say_lost, str(stop))
        else:
            self.call_from_thread(self._keep, seen)

    def _keep(self, seen: dict[str, Any]) -> None:
        self._seen = seen
        self._show()

    def _say_lost(self, reason: str) -> None:
        """What was seen last stays, with a word that it is old."""
        self.query_one("#head", Static).update(Text(f"No answer, trying again: {safe(reason)}", style="bold red"))

    def _show(self) -> None:
        if self._seen is None:
            return
        overview, monitors = self._seen["overview"], self._seen["monitors"]
        counts = ", ".join(f"{count} {state}" for state, count in overview["counts"].items() if count)
        head = Text.assemble((overview["state"].upper(), COLOURS.get(overview["state"], "")), f"   {counts}   ")
        self.query_one("#head", Static).update(head.append(f"{overview['at'][:19].replace('T', ' ')} UTC"))
        alerts = self.query_one("#alerts", DataTable)
        alerts.display = bool(overview["alerts"])
        _fill(alerts, [_alert(one) for one in overview["alerts"]])
        shown = [one for one in monitors if not self.only_wrong or one["state"] != "up"]
        _fill(self.query_one("#monitors", DataTable), [_monitor(one) for one in shown])


def _fill(table: DataTable[Text], rows: list[tuple[Text, ...]]) -> None:
    """Other rows in the same place: the cursor and what was scrolled to stay."""
    row, scrolled = table.cursor_row, table.scroll_offset
    table.clear()
    table.add_rows(rows)
    if rows and row < len(rows):
        table.move_cursor(row=row, scroll=False)
        table.scroll_to(scrolled.x, scrolled.y, animate=False)


def _monitor(one: dict[str, Any]) -> tuple[Text, ...]:
    seconds = "" if one["response_seconds"] is None else f"{one['response_seconds']:.3f}"
    silenced = f" (silenced by {one['silenced_by']})" if one["silenced_by"] else ""
    return (
        Text(safe(one["name"])),
        Text(one["state"], style=COLOURS.get(one["state"], "")),
        Text(seconds, justify="right"),
        Text(one["since"][:19].replace("T", " ")),
        Text(safe(one["reason"] + silenced)),
    )


def _alert(one: dict[str, Any]) -> tuple[Text, ...]:
    return (
        Text(one["severity"], style=SEVERITIES.get(one["severity"], "")),
        Text(safe(one["rule"])),
        Text(safe(one["reason"])),
        Text(one["fired_at"][:19].replace("T", " ")),
    )
