"""What a file declares: read at the start and whenever it changes, and never half."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from tests.modules.monitoring.make import PATH, watched_app

FIRST = """
[[monitors]]
name = "site"
kind = "http"
target = "http://127.0.0.1:9/"
parents = ["process/main"]
public = true

[[rules]]
name = "site-down"
source = "monitor"
target = "site"
severity = "critical"

[[objectives]]
name = "site-99"
monitor = "site"
target = 0.99

[[windows]]
title = "New disks"
starts_at = 2099-01-01T00:00:00Z
ends_at = 2099-01-02T00:00:00Z

[[service_classes]]
name = "chat-gold"
work = "chat"
finish_seconds = 60
price = "5"
"""
CLASS = '[[service_classes]]\nname = "chat-gold"\nwork = "chat"\nfinish_seconds = 60\nprice = "6"\n'


async def test_a_file_declares_changes_and_takes_back_without_a_restart(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    file = tmp_path / "monitoring.toml"
    file.write_text(FIRST)
    async with watched_app(new_database(), tmp_path / "state", file=file) as watched:
        await watched.step()
        site = await watched.monitor("site")
        assert (site.origin, site.parents, site.public) == ("file", ["process/main"], True)
        rules = {one["name"]: one for one in (await watched.get("alert-rules"))["data"]}
        assert rules["site-down"]["origin"] == "file" and rules["parts-down"]["origin"] == "built_in"
        assert [one["name"] for one in (await watched.get("objectives"))["data"]] == ["site-99"]
        assert [one["title"] for one in (await watched.get("maintenance"))["data"]] == ["New disks"]
        (sold,) = (await watched.get("service-classes"))["data"]
        assert (sold["name"], sold["origin"], sold["price"]) == ("chat-gold", "file", "5")
        for path in (f"monitors/{site.id}", "service-classes/chat-gold"):
            refused = await watched.admin.client.delete(f"{PATH}/{path}")
            assert refused.json()["code"] == "declared_elsewhere"

        file.write_text('[[monitors]]\nname = "site"\nkind = "tcp"\ntarget = "127.0.0.1:9"\n' + CLASS)
        await watched.step(1)
        again = await watched.monitor("site")
        assert (again.id, again.kind) == (site.id, "tcp")
        assert "site-down" not in {one["name"] for one in (await watched.get("alert-rules"))["data"]}
        (window,) = (await watched.get("maintenance"))["data"]
        assert window["state"] == "canceled"
        (dearer,) = (await watched.get("service-classes"))["data"]
        assert (dearer["price"], dearer["origin"]) == ("6", "file") and dearer["id"] != sold["id"]

        for fault in (
            "[[monitors]\n",
            '[[monitors]]\nname = "x"\nkind = "smoke"\n',
            '[[monitors]]\nname = "site"\nkind = "http"\ntarget = "gopher://x"\n',
            '[[monitors]]\nname = "module/ai"\nkind = "miners"\n',
            '[[rules]]\nname = "r"\nsource = "figure"\ntarget = "not a figure"\n',
            '[[monitors]]\nname = "d"\nkind = "miners"\n[[monitors]]\nname = "d"\nkind = "miners"\n',
            CLASS.replace("60", "0"),
            CLASS + "start_seconds = 61\n",
        ):
            file.write_text(fault)
            await watched.step(20)
            assert (await watched.monitor("site")).id == site.id, fault
            seen = await watched.monitor("declarations")
            assert "not used" in seen.reason, (fault, seen)
        file.unlink()
        await watched.step(20)
        assert (await watched.monitor("site")).id == site.id
        file.write_text("")
        await watched.step(20)
        await watched.step(20)
        assert (await watched.monitor("declarations")).state == "up"
        assert "site" not in {one["name"] for one in (await watched.get("monitors"))["data"]}
        assert (await watched.get("service-classes"))["data"] == []
    clock.move(timedelta())
