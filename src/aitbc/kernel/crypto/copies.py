"""Copies of a job: the ids of the further holds and receipts of a job whose work is done several times to verify it.

The first copy has the job's own UUID, which is of version 7; the n-th copy behind it has the same bits but for the
version, which is 7 + n. So whoever has a receipt can tell its job without a database.
"""

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
COPIES_MAX = 7
"""How many copies a job may have."""
VERSION_AT = 10
"""The character of an id's text whose upper four bits are the version; its lowest bit belongs to the time."""
VERSION = 7
LENGTH = 26


def copy_id(id_: str, number: int) -> str:
    """The id of a copy, from the id of the first (whose number is 0)."""
    assert 0 <= number < COPIES_MAX
    prefix, _, tail = id_.rpartition("_")
    low = ALPHABET.index(tail[VERSION_AT]) & 1
    return f"{prefix}_{tail[:VERSION_AT]}{ALPHABET[(VERSION + number) * 2 + low]}{tail[VERSION_AT + 1 :]}"


def copy_number(job: str, id_: str) -> int | None:
    """Which copy of a job a hold or a receipt belongs to, by the ids; none where it is not the job's."""
    of_job, tail = job.rpartition("_")[2], id_.rpartition("_")[2]
    if of_job == tail:
        return 0
    if len(of_job) != LENGTH or len(tail) != LENGTH:
        return None
    if of_job[:VERSION_AT] + of_job[VERSION_AT + 1 :] != tail[:VERSION_AT] + tail[VERSION_AT + 1 :]:
        return None
    first, other = ALPHABET.find(of_job[VERSION_AT]), ALPHABET.find(tail[VERSION_AT])
    number = (other >> 1) - VERSION
    return number if first & 1 == other & 1 and first >> 1 == VERSION and 0 < number < COPIES_MAX else None
