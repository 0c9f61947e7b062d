"""Uploads: as much as the settings promise and not a byte more, room before bytes, and nothing left behind."""

import asyncio
import errno
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.modules.ai.service.artifact_files import FOLDERS, ArtifactFiles
from aitbc.modules.ai.service.settings import AiSettings
from aitbc.modules.ai.service.uploads import ArtifactQuotaExceeded, ArtifactTooLarge, TooManyUploads
from tests.modules.ai.make import Market, Worker, ai_on
from tests.modules.ai.test_routes import ai_over_http, as_

ARTIFACTS = "/api/v1/ai/artifacts"
RAW = {"content-type": "application/octet-stream"}
MIB = 1024 * 1024


def files_in(folder: Path) -> list[str]:
    """The names of all files under a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    """A stream of these pieces."""
    for piece in content:
        yield piece


class Hanging:
    """An upload that sends its first bytes and then waits."""

    def __init__(
        self, market: Market, who: Principal, announced: int | None, first: bytes, attempt: str | None = None
    ) -> None:
        self.goes_on = asyncio.Event()
        self.has_begun = asyncio.Event()
        self._first = first
        self.task = asyncio.create_task(market.ai.artifacts.store(who, self._stream(), attempt, announced))

    async def _stream(self) -> AsyncIterator[bytes]:
        yield self._first
        self.has_begun.set()
        await self.goes_on.wait()

    async def begun(self) -> None:
        """Wait until bytes flow, or it is refused."""
        waiting = asyncio.create_task(self.has_begun.wait())
        await asyncio.wait((self.task, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()


async def rows(market: Market) -> list[tuple[str, int]]:
    """Digest and size of every row."""
    return [(row["digest"][:9], row["bytes"]) for row in await market.sql("SELECT digest, bytes FROM ai.artifacts")]


async def test_an_upload_may_have_what_the_settings_say_and_not_a_byte_more(owner: Target, tmp_path: Path) -> None:
    limit = AiSettings().artifact_bytes_max
    assert limit == 64 * MIB  # as docs/settings.md says
    whole = bytes(limit)

    async def in_chunks(more: int) -> AsyncIterator[bytes]:
        for at in range(0, limit, MIB):
            yield whole[at : at + MIB]
        yield b"x" * more

    async with ai_over_http(owner, state_dir=tmp_path) as (market, visitors, client):
        headers = as_(visitors, market.person()) | RAW
        for content, status in ((whole[:10_000_001], 201), (whole, 201), (whole + b"x", 413)):
            answer = await client.post(ARTIFACTS, content=content, headers=headers)
            assert answer.status_code == status, answer.text
        assert answer.json()["code"] == "artifact_too_large"
        headers = as_(visitors, market.person()) | RAW
        for more, status in ((0, 201), (1, 413)):
            answer = await client.post(ARTIFACTS, content=in_chunks(more), headers=headers)
            assert answer.status_code == status, answer.text
        assert answer.json()["code"] == "artifact_too_large"
        assert len(files_in(tmp_path)) == 2


async def test_the_quota_holds_to_the_byte_announced_or_not(owner: Target, tmp_path: Path) -> None:
    async with ai_on(owner, state_dir=tmp_path, artifact_bytes_max=1000, artifact_quota_bytes=1500) as market:
        store = market.ai.artifacts.store
        for announced in (True, False):
            who = market.person()
            await store(who, pieces(b"x" * 1000), None, 1000 if announced else None)
            with pytest.raises(ArtifactQuotaExceeded):
                await store(who, pieces(b"y" * 501), None, 501 if announced else None)
            await store(who, pieces(b"y" * 500), None, 500 if announced else None)
            with pytest.raises(ArtifactTooLarge):
                await store(who, pieces(b"z" * 1001), None, 1001)
        # Its answer was lost, so it is sent again: the same artifact, though there is no room for a second one.
        again = await store(who, pieces(b"x" * 1000), None, 1000)
        assert len(await market.sql("SELECT id FROM ai.artifacts")) == 4
        with pytest.raises(ArtifactQuotaExceeded):  # of the same size, but another
            await store(who, pieces(b"n" * 1000), None, 1000)
        assert again.bytes == 1000
        assert not [name for name in files_in(tmp_path) if name.startswith("incoming")]


async def test_uploads_that_hang_hold_no_more_than_the_quota(owner: Target, tmp_path: Path) -> None:
    limits: dict[str, Any] = {
        "artifact_bytes_max": 7 * MIB,
        "artifact_quota_bytes": 20 * MIB,
        "uploads_per_account": 12,
    }
    async with ai_on(owner, state_dir=tmp_path, **limits) as market:
        for announced, at_most in ((7 * MIB, 2), (None, 3), (MIB, 12)):
            who = market.person()
            hanging = [Hanging(market, who, announced, b"x" * (MIB // 2)) for _ in range(30)]
            await asyncio.gather(*(one.begun() for one in hanging))
            live = [one for one in hanging if not one.task.done()]
            assert 1 <= len(live) <= 12
            refused = {type(one.task.exception()) for one in hanging if one.task.done()}
            assert refused <= {ArtifactQuotaExceeded, TooManyUploads}
            reserved = sum(size for digest, size in await rows(market) if digest == "uploading")
            assert reserved <= limits["artifact_quota_bytes"]
            if announced is not None:
                assert len(live) == at_most
            for one in live[1:]:
                one.task.cancel()
            await asyncio.gather(*(one.task for one in live[1:]), return_exceptions=True)
            live[0].goes_on.set()
            assert (await live[0].task).bytes == MIB // 2
            assert not [row for row in await rows(market) if row[0] == "uploading"]
            assert not [name for name in files_in(tmp_path) if name.startswith("incoming")]


async def test_a_lease_has_a_bound_of_its_own(owner: Target, tmp_path: Path) -> None:
    async with ai_on(owner, state_dir=tmp_path, uploads_per_account=1) as market:
        miner = Worker(market)
        await market.submit(market.person())
        lease = await miner.take()
        first = Hanging(market, miner.principal, None, b"x", lease.attempt)
        await first.begun()
        with pytest.raises(TooManyUploads) as refusal:
            await market.ai.artifacts.store(miner.principal, pieces(b"y"), lease.attempt)
        assert refusal.value.headers["Retry-After"]
        half = ids.encode("art", (await market.sql("SELECT id FROM ai.artifacts"))[0]["id"])
        assert await market.ai.artifacts.delivered(half, lease.attempt) is None
        first.goes_on.set()
        assert (await first.task).bytes == 1


async def test_what_a_dead_process_left_is_removed_and_what_a_living_one_sends_is_not(
    owner: Target, tmp_path: Path
) -> None:
    async with ai_on(owner, state_dir=tmp_path, artifact_bytes_max=1000, artifact_quota_bytes=1500) as market:
        who, folder = market.person(), tmp_path / "artifacts"
        live = Hanging(market, who, 400, b"x" * 400)
        await live.begun()
        dead = ids.new_id("art")
        await market.sql(
            "INSERT INTO ai.artifacts (id, account, digest, bytes, created_at, expires_at) "
            "VALUES ($1, $2, 'uploading', 1000, now(), now() + interval '20 minutes')",
            ids.decode("art", dead),
            ids.decode("acct", who.account),
        )
        (folder / f"incoming-{dead}").write_bytes(b"half")
        (folder / "incoming-q2c1x").write_bytes(b"of an older program")
        with pytest.raises(ArtifactQuotaExceeded):
            await market.ai.artifacts.store(who, pieces(b"y" * 900), None, 900)
        await market.ai.tidy()  # as the first round after a start
        assert [name for name in files_in(folder) if name.startswith("incoming")] == [
            f"incoming-{ids.encode('art', row['id'])}" for row in await market.sql("SELECT id FROM ai.artifacts")
        ]
        await market.ai.artifacts.store(who, pieces(b"y" * 900), None, 900)
        clock.move(timedelta(days=1))  # the clock of the machine is set while it goes on
        await market.ai.tidy()
        live.goes_on.set()
        assert (await live.task).bytes == 400
        assert sorted(await rows(market)) == sorted(set(await rows(market)))


async def test_room_whose_file_went_without_its_row_is_free_after_the_next_round(owner: Target, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"artifact_bytes_max": 1000, "artifact_quota_bytes": 1500, "uploads_per_account": 3}
    async with ai_on(owner, state_dir=tmp_path, **limits) as market:
        who = market.person()
        live = Hanging(market, who, 400, b"x" * 400)
        await live.begun()
        cut = Hanging(market, who, 1000, b"y")
        await cut.begun()
        db, failing = market.ai.db, pytest.MonkeyPatch()
        with failing.context() as patch:  # the database goes away, and with it the room cannot be given back

            def away() -> Any:
                raise Unavailable

            patch.setattr(db, "unit_of_work", away)
            cut.task.cancel()
            await asyncio.gather(cut.task, return_exceptions=True)
        assert len(await rows(market)) == 2
        with pytest.raises(ArtifactQuotaExceeded):
            await market.ai.artifacts.store(who, pieces(b"y" * 900), None, 900)
        clock.move(timedelta(seconds=10))
        await market.ai.tidy()
        await market.ai.artifacts.store(who, pieces(b"y" * 900), None, 900)
        live.goes_on.set()
        assert (await live.task).bytes == 400


async def test_content_without_an_artifact_is_removed(owner: Target, tmp_path: Path) -> None:
    async with ai_on(owner, state_dir=tmp_path) as market:
        kept = await market.ai.artifacts.store(market.person(), pieces(b"kept"), None)
        lost = await market.ai.artifacts.store(market.person(), pieces(b"lost"), None)
        await market.sql("DELETE FROM ai.artifacts WHERE digest = $1", lost.digest)  # as if it was never committed
        for _ in range(FOLDERS):
            await market.ai.artifacts.remove_abandoned()
        assert files_in(tmp_path) == [kept.digest.removeprefix("sha256:")]


CALLS = ("open", "write", "fsync", "mkdir", "replace")
NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


async def test_a_disk_that_fails_is_a_refusal_that_says_when_to_come_again(
    owner: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call of the system that an upload makes fails in each way; the next upload succeeds."""
    folder = tmp_path / "artifacts"
    async with ai_over_http(owner, state_dir=tmp_path) as (market, visitors, client):
        for number in NUMBERS:
            for call in CALLS:
                headers = as_(visitors, market.person()) | RAW
                content = os.urandom(64)
                with monkeypatch.context() as patch:
                    failing(patch, call, number, folder)
                    answer = await client.post(ARTIFACTS, content=content, headers=headers)
                assert answer.status_code == 503, (call, number, answer.text)
                full = number in (errno.ENOSPC, errno.EDQUOT)
                assert answer.json()["code"] == ("storage_full" if full else "storage_failed"), call
                assert answer.json()["retryable"] is True
                assert int(answer.headers["retry-after"]) >= 1
                assert files_in(folder) == []
                assert await rows(market) == []
                answer = await client.post(ARTIFACTS, content=content, headers=headers)
                assert answer.status_code == 201, "it recovers by itself"
                await market.sql("UPDATE ai.artifacts SET expires_at = now()")
                await market.ai.tidy()
                for each in folder.iterdir():
                    each.rmdir()


async def test_a_file_that_cannot_be_read_is_a_refusal_too(
    owner: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ai_over_http(owner, state_dir=tmp_path) as (market, visitors, client):
        headers = as_(visitors, market.person())
        kept = (await client.post(ARTIFACTS, content=b"x" * 64, headers=headers | RAW)).json()["id"]

        def broken(*_: object) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(ArtifactFiles, "pieces", broken)
        monkeypatch.setattr(ArtifactFiles, "read", broken)
        answer = await client.get(f"{ARTIFACTS}/{kept}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_failed")
        job = {"kind": "ocr", "input": {"image": {"artifact": kept}}, "max_price": "1"}
        answer = await client.post("/api/v1/ai/jobs", json=job, headers=headers | {"idempotency-key": "x"})
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_failed")


async def test_one_file_that_cannot_be_removed_does_not_keep_the_others(
    owner: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ai_on(owner, state_dir=tmp_path) as market:
        kept = [await market.ai.artifacts.store(market.person(), pieces(bytes([at])), None) for at in range(3)]
        await market.sql("UPDATE ai.artifacts SET expires_at = now()")
        remove = ArtifactFiles.remove

        def failing_once(self: ArtifactFiles, digest: str) -> None:
            if digest == kept[0].digest:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            remove(self, digest)

        with monkeypatch.context() as patch:
            patch.setattr(ArtifactFiles, "remove", failing_once)
            await market.ai.tidy()
        assert files_in(tmp_path) == [kept[0].digest.removeprefix("sha256:")]
        await market.ai.tidy()
        assert files_in(tmp_path) == []


def failing(patch: pytest.MonkeyPatch, call: str, number: int, folder: Path) -> None:
    """Let a call of the system fail where it is about the folder of artifacts, by path or by descriptor."""
    real = getattr(os, call)

    def fails(target: Any, *args: Any, **more: Any) -> Any:
        path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
        if path.is_relative_to(folder) and (call != "mkdir" or path != folder):
            raise OSError(number, os.strerror(number))
        return real(target, *args, **more)

    patch.setattr(os, call, fails)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of artifacts as a disk of its own, of two MiB."""
    folder = tmp_path / "artifacts"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False).returncode != 0:
        pytest.skip("may not mount a small disk here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts a small disk")
async def test_a_disk_that_is_really_full(owner: Target, tmp_path: Path, small_disk: Path) -> None:
    async with ai_over_http(owner, state_dir=tmp_path) as (market, visitors, client):
        headers = as_(visitors, market.person()) | RAW
        answers = await asyncio.gather(
            *(client.post(ARTIFACTS, content=bytes([at]) * (3 * MIB), headers=headers) for at in range(4))
        )
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "storage_full")}
        assert all(answer.headers["retry-after"] for answer in answers)
        assert files_in(small_disk) == []
        assert await rows(market) == []
        answer = await client.post(ARTIFACTS, content=b"x" * MIB, headers=headers)
        assert answer.status_code == 201, "there is room for this one"
        (small_disk / "filler").write_bytes(b"x" * (MIB * 9 // 10))
        assert (await client.post(ARTIFACTS, content=b"y" * MIB, headers=headers)).status_code == 503
        (small_disk / "filler").unlink()
        assert (await client.post(ARTIFACTS, content=b"y" * (MIB // 2), headers=headers)).status_code == 201
