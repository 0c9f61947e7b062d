"""Identifiers have one spelling, sort by time and never repeat."""

import os
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.primitives import ids


@given(st.uuids())
def test_text_and_uuid_are_inverse(value: UUID) -> None:
    text = ids.encode("job", value)
    assert ids.decode("job", text) == value
    assert len(text) == 30


def test_ids_made_in_a_row_are_distinct_and_ascend() -> None:
    made = [ids.new_id("job") for _ in range(5000)]
    assert sorted(set(made)) == made


def test_a_fresh_uuid_says_version_seven_and_the_standard_variant() -> None:
    value = ids.new_uuid()
    assert value.version == 7
    assert value.variant == "specified in RFC 4122"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "job",
        "job_",
        "mnr_01hzy3v2qk5s7f8g9h0j1k2m3n",
        "job_01HZY3V2QK5S7F8G9H0J1K2M3N",
        "job_01hzy3v2qk5s7f8g9h0j1k2m3",
        "job_81hzy3v2qk5s7f8g9h0j1k2m3n",
        "job_01hzy3v2qk5s7f8g9h0j1k2m3u",
        "{job_01hzy3v2qk5s7f8g9h0j1k2m3n}",
        "job_\x00",
    ],
)
def test_any_other_spelling_is_malformed(text: str) -> None:
    with pytest.raises(ids.MalformedId):
        ids.decode("job", text)
    assert not ids.is_id("job", text)


def test_a_forked_process_makes_ids_of_its_own() -> None:
    ids.new_uuid()  # there is chance left over
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, ids.new_uuid().bytes)
        os._exit(0)
    os.waitpid(child, 0)
    theirs = int.from_bytes(os.read(reader, 16)) & (1 << 62) - 1
    ours = [ids.new_uuid().int & (1 << 62) - 1 for _ in range(ids.RANDOM_BYTES // 8)]
    assert theirs not in ours
