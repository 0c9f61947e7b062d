"""What a receipt tells of the verification of its job is checked offline: forged evidence is refused, signed or not."""

from typing import Any

import pytest

from aitbc.kernel.crypto import chain_format
from aitbc.kernel.crypto.copies import COPIES_MAX, copy_id, copy_number
from aitbc.kernel.crypto.signing import canonical
from aitbc.kernel.primitives import ids
from tests.kernel.crypto.test_chain_format import MINER, a_receipt

ATTEMPT, DIGEST = a_receipt()["attempt"], a_receipt()["output_digest"]
OTHERS = [f"att_01k000000000000000000000{letter}z" for letter in "abcdef"]


def an_answer(attempt: str, *, agrees: bool = True, trusted: bool = False) -> dict[str, Any]:
    """An answer; that of the receipt's own attempt has its output."""
    return {"agrees": agrees, "attempt": attempt, "output_digest": DIGEST, "trusted": trusted}


def verified(tier: str, *others: dict[str, Any], verdict: str = "valid", own: dict[str, Any] | None = None) -> Any:
    """A receipt of a job that was verified."""
    answers = [own or an_answer(ATTEMPT), *others]
    said = {"answers": answers, "rule": "the same", "tier": tier, "verdict": verdict}
    return a_receipt(verification=said)


YES = [an_answer(attempt) for attempt in OTHERS]
NO = [an_answer(attempt, agrees=False) for attempt in OTHERS]
CHECK = an_answer(OTHERS[0], trusted=True)
WRONG = an_answer(OTHERS[0], agrees=False)
TRUSTED = an_answer(ATTEMPT, trusted=True)


@pytest.mark.parametrize(
    "receipt",
    [
        verified("quorum:3", YES[0], NO[1]),
        verified("quorum:2", YES[0]),
        verified("recheck", CHECK),
        verified("recheck", WRONG, own=TRUSTED),
        verified("sampled", CHECK),
        verified("sampled", verdict="unchecked"),
        verified("sampled", CHECK, verdict="unclear"),
        verified("recheck", verdict="trusted", own=TRUSTED),
    ],
)
def test_evidence_that_bears_its_verdict_out_is_accepted(receipt: dict[str, Any]) -> None:
    chain_format.check_receipt(receipt)


@pytest.mark.parametrize(
    "receipt",
    [
        verified("quorum:3", NO[0], NO[1]),
        verified("quorum:4", YES[0], NO[1], NO[2]),
        verified("quorum:3", YES[0]),
        verified("quorum:1"),
        verified("quorum:3", YES[0], YES[0]),
        verified("quorum:2", YES[0], own=an_answer(ATTEMPT, agrees=False)),
        verified("quorum:2", YES[0], own=an_answer(ATTEMPT) | {"output_digest": "sha256:00"}),
        verified("quorum:2", YES[0], YES[1], own=YES[2]),
        verified("recheck", YES[0]),
        verified("recheck", an_answer(OTHERS[0], agrees=False, trusted=True)),
        verified("recheck", verdict="unchecked"),
        verified("recheck", WRONG, own=TRUSTED, verdict="unclear"),
        verified("recheck", verdict="trusted"),
        verified("recheck", verdict="valid", own=TRUSTED),
        verified("none", verdict="unchecked"),
        verified("sampled", verdict="no_majority"),
    ],
)
def test_evidence_that_does_not_is_refused_though_the_node_signed_it(receipt: dict[str, Any]) -> None:
    with pytest.raises(chain_format.ChainError) as refusal:
        chain_format.check_receipt(receipt)
    assert refusal.value.field == "verification"


@pytest.mark.parametrize(
    "said",
    [
        5,
        {},
        {"answers": [], "rule": "", "tier": "", "verdict": 5},
        {"answers": [5], "rule": "", "tier": "", "verdict": ""},
    ],
)
def test_evidence_of_another_shape_is_refused(said: Any) -> None:
    with pytest.raises(chain_format.ChainError, match="wrong type"):
        chain_format.check_receipt(a_receipt(verification=said))


def test_a_copy_has_the_jobs_id_but_for_its_number() -> None:
    for _ in range(50):
        job = ids.new_id("job")
        names = [copy_id(f"rcpt_{job.removeprefix('job_')}", number) for number in range(COPIES_MAX)]
        assert len(set(names)) == COPIES_MAX
        assert all(ids.is_id("rcpt", name) for name in names)
        assert [copy_number(job, name) for name in names] == list(range(COPIES_MAX))
        assert copy_number(job, ids.new_id("rcpt")) is None
        assert copy_number(names[1].replace("rcpt", "job"), names[2]) is None


def test_a_receipt_of_a_copy_needs_its_evidence() -> None:
    job = ids.new_id("job")
    name = copy_id(f"rcpt_{job.removeprefix('job_')}", 1)
    said = verified("quorum:2", YES[0])["verification"]
    plain = a_receipt()
    work = {name: plain[name] for name in ("attempt", "input_digest", "kind", "miner", "output_digest", "token")}
    statement = work | {"job": job, "statement": chain_format.WORK}
    names = {"job": job, "id": name, "miner_signature": MINER.sign(canonical(statement))}
    chain_format.check_receipt(a_receipt(**names, verification=said))
    with pytest.raises(chain_format.ChainError, match="another job"):
        chain_format.check_receipt(a_receipt(**names))
