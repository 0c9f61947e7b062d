"""Parts of many outputs in one request: each lease has its own answer, and one that is refused harms no other."""

from typing import Any

from tests.modules.gpu.make import Fleet


def parts(lease: dict[str, Any], *texts: str, start: int = 1, token: int | None = None) -> dict[str, Any]:
    told = [{"sequence": number, "text": text} for number, text in enumerate(texts, start)]
    return {"attempt": lease["attempt"], "token": lease["token"] if token is None else token, "parts": told}


async def test_each_lease_has_its_own_answer(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig = await fleet.rig(owner, kinds=["chat", "embed"])
    rig.slots = 4
    await rig.heartbeat()
    ask = {"messages": [{"role": "user", "content": "Count."}]}
    for _ in range(2):
        await fleet.submit(buyer, kind="chat", input=ask, max_price="1")
    await fleet.submit(buyer)
    leases = (await rig.poll(slots=4))["leases"]
    first, second = (lease for lease in leases if lease["kind"] == "chat")
    (embed,) = (lease for lease in leases if lease["kind"] == "embed")
    unknown = {**first, "attempt": "att_01k0000000000000000000000a"}
    body = {
        "leases": [parts(first, "one ", "two "), parts(second, "x", token=9), parts(embed, "x"), parts(unknown, "x")]
    }
    answer = await rig.call("POST", "/parts", body)
    assert answer.status_code == 200, answer.text
    assert [(one["status"], one["kept"], one["refused"]) for one in answer.json()["leases"]] == [
        ("live", 2, None),
        ("lost", 0, "lease_lost"),
        ("live", 0, "not_told_in_parts"),
        ("lost", 0, "lease_lost"),
    ]
    again = {"leases": [parts(first, "two ", "three", start=2), parts(second)]}
    told = (await rig.call("POST", "/parts", again)).json()["leases"]
    assert [(one["kept"], one["heard"]) for one in told] == [(2, 3), (0, 0)]
    asked = await rig.call("POST", "/parts", {"leases": [parts(first)]})
    assert [one["kept"] for one in asked.json()["leases"]] == [3], "without more to send it says what is stored"
    assert (await rig.call("POST", "/parts", {"leases": []})).status_code == 422
