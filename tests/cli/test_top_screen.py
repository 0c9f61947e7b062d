"""The screen of `aitbc top`: what it shows, its keys, and what it says while the server is away."""

import asyncio
from typing import Any

import pytest

from aitbc_cli.exits import Stop

pytest.importorskip("textual")

from textual.widgets import DataTable, Static

from aitbc_cli.top_screen import TopScreen

AT = "2030-01-31T12:00:00.000000Z"


def seen(**states: str) -> dict[str, Any]:
    """What the server says of monitors of these states."""
    monitors = [
        {
            "name": name,
            "state": state,
            "since": AT,
            "response_seconds": 0.002,
            "reason": "[red]x\x1b[2J",
            "silenced_by": None,
        }
        for name, state in states.items()
    ]
    alert = {"severity": "critical", "rule": "parts-down", "reason": "gone", "fired_at": AT}
    wrong = [state for state in states.values() if state != "up"]
    overview = {"state": wrong[0] if wrong else "up", "at": AT, "counts": {"up": 1}, "alerts": [alert] if wrong else []}
    return {"overview": overview, "monitors": monitors}


async def until(holds: Any) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - the screen has no event of ours
            await asyncio.sleep(0.02)


async def test_it_shows_what_is_wrong_outlives_a_lost_server_and_obeys_its_keys() -> None:
    answers: list[Any] = [seen(ai="up", site="down")]

    def look() -> dict[str, Any]:
        if isinstance(answers[-1], Stop):
            raise answers[-1]
        return dict(answers[-1])

    screen = TopScreen(look, 3600.0)
    async with screen.run_test(size=(100, 30)) as pilot:
        monitors, alerts = screen.query_one("#monitors", DataTable), screen.query_one("#alerts", DataTable)
        await until(lambda: monitors.row_count == 2)
        assert alerts.display and alerts.row_count == 1
        words = [str(cell) for cell in monitors.get_row_at(1)]
        assert words[:3] == ["site", "down", "0.002"] and words[4] == "[red]x\\x1b[2J"  # neither markup nor a command
        await pilot.press("down", "w")
        assert monitors.row_count == 1 and str(monitors.get_row_at(0)[0]) == "site"
        answers.append(Stop("the server does not answer", code="unreachable"))
        await pilot.press("r")
        await until(lambda: "does not answer" in str(screen.query_one("#head", Static).render()))
        assert monitors.row_count == 1
        answers.append(seen(ai="up"))
        await pilot.press("r", "w")
        await until(lambda: monitors.row_count == 1 and str(monitors.get_row_at(0)[0]) == "ai")
        assert screen.query_one("#alerts").display is False
        await pilot.press("q")
    assert screen.return_code == 0
