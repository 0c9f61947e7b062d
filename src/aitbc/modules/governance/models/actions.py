"""What a proposal does when it is executed: typed actions, checked when it is made and again when it takes effect."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from aitbc.kernel.crypto.signing import canonical
from aitbc.kernel.hooks.manifest import PluginName
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import Conflict, Invalid
from aitbc.kernel.primitives.money import parse
from aitbc.kernel.primitives.text import Name

AmountText = Annotated[
    str,
    Meta(max_length=32, pattern=r"^[0-9]{1,20}(\.[0-9]{1,8})?\Z"),
    Meta(
        description="AITBC as a decimal string with at most eight places.",
        extra_json_schema={"pattern": r"^[0-9]{1,20}(\.[0-9]{1,8})?$", "examples": ["0.05", "10"]},
    ),
]
ParameterName = Annotated[
    str,
    Meta(max_length=80, pattern=r"^[a-z_]+(\.[a-z0-9_]+){1,3}\Z"),
    Meta(extra_json_schema={"pattern": r"^[a-z_]+(\.[a-z0-9_]+){1,3}$", "examples": ["trading.fee_basis_points"]}),
]
LineName = Annotated[
    str,
    Meta(max_length=40, pattern=r"^[a-z][a-z0-9_]*\Z"),
    Meta(extra_json_schema={"pattern": "^[a-z][a-z0-9_]*$", "examples": ["grants"]}),
]
AccountId = Annotated[
    str,
    Meta(max_length=31, pattern=r"^acct_[0-7][0-9a-hjkmnp-tv-z]{25}\Z"),
    Meta(
        extra_json_schema={
            "pattern": "^acct_[0-7][0-9a-hjkmnp-tv-z]{25}$",
            "examples": ["acct_01k0000000000000000000000a"],
        }
    ),
]
ACTIONS_MAX = 10
PARTS_MAX = 60


class ActionNotAllowed(Invalid):
    """A proposal of this class may not do that."""

    code = "action_not_allowed"


class NobodyHears(Conflict):
    """Nothing that is installed carries out this action."""

    code = "action_not_heard"


class SetParameter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="set_parameter", tag_field="do"):
    """Give a live parameter a value, or the operator's back."""

    name: ParameterName
    """Which one; `GET /api/v1/governance/parameters` lists them. For example `trading.fee_basis_points`."""
    value: Annotated[int, Meta(ge=-(2**53), le=2**53)] | None
    """The whole number that it is to have; null for what the operator's settings say. For example `200`."""


class SetBudget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="set_budget", tag_field="do"):
    """Say how much a budget line of the treasury may pay in all."""

    line: LineName
    """The line; it is opened where it is not there. For example `grants`."""
    limit: AmountText
    """All that it may ever pay, what it has paid included, in AITBC. For example `5000`."""


class Milestone(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a payment that is due when two of those who may execute have approved it."""

    title: Name
    """What is to be done for it. For example `First release`."""
    amount: AmountText
    """What it pays, in AITBC. For example `100`."""


class Pay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="pay", tag_field="do"):
    """Pay from the treasury, within a budget line: at once, in equal parts over time, or by milestones."""

    to: AccountId
    """Who is paid. For example `acct_01k0000000000000000000000a`."""
    line: LineName
    """The budget line that it is taken from. For example `grants`."""
    amount: AmountText
    """All of it, in AITBC; of milestones their sum. For example `300`."""
    parts: Annotated[int, Meta(ge=1, le=PARTS_MAX)] = 1
    """In how many parts; the first is paid at once. For example `3`."""
    every_seconds: Annotated[int, Meta(ge=1, le=31_536_000)] = 2_592_000
    """The time between two parts, in seconds. For example `2592000`."""
    milestones: Annotated[tuple[Milestone, ...], Meta(max_length=PARTS_MAX)] = ()
    """In place of parts: what is paid for which. For example `[]`."""


class StopPayments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="stop_payments", tag_field="do"):
    """Stop what an executed proposal has not paid yet."""

    proposal: Annotated[str, Meta(max_length=31)]
    """The proposal that pays. For example `prop_01k0000000000000000000000a`."""


class PauseModule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="pause_module", tag_field="do"):
    """Stop new business of a module; what was begun goes on."""

    module: LineName
    """The module. For example `ai`."""


class ResumeModule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="resume_module", tag_field="do"):
    """Let a module take new business again."""

    module: LineName
    """The module. For example `ai`."""


class AllowPlugin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="allow_plugin", tag_field="do"):
    """Let the operator install a plugin of the registry, also after it was withdrawn."""

    plugin: PluginName
    """The plugin: its namespace and its name. For example `acme.night-price`."""


class WithdrawPlugin(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="withdraw_plugin", tag_field="do"
):
    """Turn a plugin of the registry off, and let nobody install it here."""

    plugin: PluginName
    """The plugin: its namespace and its name. For example `acme.night-price`."""


Action = SetParameter | SetBudget | Pay | StopPayments | PauseModule | ResumeModule | AllowPlugin | WithdrawPlugin
RUNNING = (SetParameter, PauseModule, ResumeModule, AllowPlugin, WithdrawPlugin)
"""What changes the running system: live parameters take effect in one transaction, and plugins by an event of it."""
SPENDING = (SetBudget, Pay, StopPayments)
ALLOWED: dict[str, tuple[type, ...]] = {
    "parameters": RUNNING,
    "emergency": RUNNING,
    "funding": SPENDING,
    "general": (),
}
"""By class: a proposal changes either what runs or what is paid, so that it takes effect whole or not at all."""


def check_actions(class_: str, actions: Sequence[Action], parameters: Parameters) -> None:
    """Check what can be checked without money.

    Raises `ActionNotAllowed`, `ParameterUnknown`, `ParameterOutOfRange`, `InvalidAmount`, and `Invalid`
    for milestones that do not add up.
    """
    if class_ != "general" and not actions:
        raise ActionNotAllowed(f"A proposal of the class {class_} needs an action.")
    for action in actions:
        if not isinstance(action, ALLOWED[class_]):
            raise ActionNotAllowed(f"A proposal of the class {class_} may not do {_name(action)}.")
        if isinstance(action, Pay):
            _check_parts(action)
        elif isinstance(action, SetBudget):
            parse(action.limit, zero=True)
    for name, value in settings_of(actions):
        parameters.check(name, value)


def settings_of(actions: Sequence[Action]) -> list[tuple[str, int | None]]:
    """The live parameters that actions set, in their order."""
    found: list[tuple[str, int | None]] = []
    for action in actions:
        if isinstance(action, SetParameter):
            found.append((action.name, action.value))
        elif isinstance(action, (PauseModule, ResumeModule)):
            found.append((f"{action.module}.paused", int(isinstance(action, PauseModule))))
    return found


def rulings_of(actions: Sequence[Action]) -> dict[str, bool]:
    """By plugin whether actions allow or withdraw it; of several about one plugin the last counts."""
    about = (action for action in actions if isinstance(action, (AllowPlugin, WithdrawPlugin)))
    return {action.plugin: isinstance(action, AllowPlugin) for action in about}


def _check_parts(action: Pay) -> None:
    total = parse(action.amount)
    if not action.milestones:
        if total < action.parts:
            raise Invalid("Every part of a payment must be at least one minor unit.")
        return
    if action.parts != 1:
        raise Invalid("A payment has parts or milestones, not both.")
    if sum(parse(milestone.amount) for milestone in action.milestones) != total:
        raise Invalid("The milestones do not add up to the amount.")


def _name(action: Action) -> str:
    return str(type(action).__struct_config__.tag)


class Content(Struct, frozen=True, kw_only=True):
    """All that is voted on: the id of a proposal is made from it."""

    proposer: str
    title: str
    text: str
    class_: str
    actions: tuple[Action, ...]
    ballot: str
    options: tuple[str, ...]

    def digest(self) -> str:
        """The SHA-256 of the canonical JSON: two proposals of the same content are the same."""
        named: dict[str, Any] = msgspec.to_builtins(self)
        named["class"] = named.pop("class_")
        return hashlib.sha256(canonical(named)).hexdigest()


def id_of(digest: str) -> str:
    """The id of the proposal with this digest: its first 128 bits."""
    return ids.encode("prop", UUID(hex=digest[:32]))
