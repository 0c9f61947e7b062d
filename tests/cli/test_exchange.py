"""Assets and the exchange on the command line."""

from aitbc_cli.exits import NOT_FOUND
from tests.cli.installation import CliInstallation


def test_assets_are_defined_given_and_exchanged(installation: CliInstallation) -> None:
    admin, alice = installation.admin, installation.alice
    bob = installation.resident("bob", funds="50")
    account = alice.gets("key", "whoami")["account"]
    assert admin.gets("asset", "create", "GOLD", "Gold")["code"] == "GOLD"
    assert admin.gets("asset", "create", "GOLD", "Gold")["code"] == "GOLD", "again is harmless"
    assert [one["code"] for one in alice.gets("asset", "list")][:2] == ["AITBC", "GOLD"]
    admin.gets("deposit", account, "5", "--asset", "GOLD")
    pair = admin.gets("exchange", "create", "GOLD")["id"]

    offered = alice.gets("exchange", "sell", pair, "4", "--price", "2.5")
    assert (offered["state"], offered["held"], offered["held_asset"]) == ("open", "4", "GOLD")
    assert [(one["side"], one["price"], one["quantity"]) for one in bob.gets("exchange", "book", pair)] == [
        ("sell", "2.5", "4")
    ]
    bought = bob.gets("exchange", "buy", pair, "1")
    assert (bought["kind"], bought["state"], bought["cost"]) == ("market", "filled", "2.5")
    (fill,) = alice.gets("exchange", "fills", offered["id"])
    assert fill["is_maker"] and bob.gets("tx", "show", fill["transaction"])["kind"] == "trade"
    held = {one["asset"]: (one["available"], one["held"]) for one in alice.gets("asset", "balances")}
    assert held["GOLD"] == ("1", "3")
    assert [one["amount"] for one in alice.gets("account", "statement", "--asset", "GOLD")] == ["-4", "5"]
    assert alice.gets("exchange", "cancel", offered["id"])["state"] == "canceled"
    assert alice.gets("exchange", "orders", "--state", "open") == []
    assert [one["trades"] for one in bob.gets("exchange", "candles", pair)] == [1]
    assert bob.gets("exchange", "stats", pair)["last"] == bob.gets("exchange", "trades", pair)[0]["price"] == "2.5"
    bob.does("exchange", "show", offered["id"], code=NOT_FOUND)
    assert admin.gets("exchange", "halt", pair)["state"] == "halted"
    assert "pair_halted" in bob.does("exchange", "buy", pair, "1", "--json", code=5).out
    assert admin.gets("ledger", "verify")["ok"]
