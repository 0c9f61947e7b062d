"""What the routes of governance take."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.kernel.primitives.money import parse
from aitbc.kernel.primitives.text import Name, Text
from aitbc.modules.governance.models.actions import ACTIONS_MAX, AccountId, Action, AmountText, Content
from aitbc.modules.governance.models.ballots import OPTIONS_MAX, WEIGHT_MOST, Choice
from aitbc.modules.governance.service.proposals import Times
from aitbc.modules.governance.service.stakes import Share
from aitbc.modules.governance.service.votes import Ballot, SignedBallot

Moment = Annotated[datetime, Meta(tz=True)]
Signature = Annotated[str, Meta(max_length=90, pattern=r"^[A-Za-z0-9_-]{86}\Z")]
PublicKey = Annotated[
    str,
    Meta(max_length=44, pattern=r"^[A-Za-z0-9_-]{43}\Z"),
    Meta(
        extra_json_schema={
            "pattern": "^[A-Za-z0-9_-]{43}$",
            "examples": ["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"],
        }
    ),
]


class GovernanceAmount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An amount of money."""

    amount: AmountText
    """In AITBC. For example `500`."""

    def units(self) -> int:
        """In minor units. Raises `InvalidAmount`."""
        return parse(self.amount)


class DelegateShare(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A share of your power for somebody."""

    to: AccountId
    """Who votes with it. For example `acct_01k0000000000000000000000b`."""
    basis_points: Annotated[int, Meta(ge=1, le=10_000)] = 10_000
    """How much, in 1/10 000. For example `10000`."""


class DelegatePower(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To whom your power goes, in place of what you said before."""

    shares: Annotated[tuple[DelegateShare, ...], Meta(max_length=20)]
    """To whom, and how much; empty for nobody. For example `[]`."""

    def named(self) -> list[Share]:
        """As the service takes it."""
        return [Share(share.to, share.basis_points) for share in self.shares]


class MakeProposal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be decided."""

    title: Name
    """What it is called. For example `Lower the fee`."""
    text: Text = ""
    """Why it is proposed. For example `Miners ask for it.`."""
    class_: Literal["parameters", "funding", "general", "emergency"] = field(default="general", name="class")
    """What decides it: what runs (`parameters`, `emergency`), what is paid (`funding`), or words alone (`general`)."""
    actions: Annotated[tuple[Action, ...], Meta(max_length=ACTIONS_MAX)] = ()
    """What it does when it is executed, in this order, all of it or nothing. For example `[{"do": "set_parameter",
    "name": "trading.fee_basis_points", "value": 200}]`."""
    ballot: Literal["basic", "single", "approval", "weighted", "quadratic", "ranked"] = "basic"
    """How it is voted on; another than `basic` is for words alone."""
    options: Annotated[tuple[Name, ...], Meta(max_length=OPTIONS_MAX)] = ()
    """What there is to choose from, 2 to 20, where the ballot is not `basic`. For example `["Red", "Blue"]`."""
    voting_starts: Moment | None = None
    """When voting starts: not before the rules allow; then, when left out."""
    voting_ends: Moment | None = None
    """When voting ends: not before the rules allow; then, when left out."""

    def content(self, proposer: str) -> Content:
        """As the service takes it. Raises `Invalid` for a ballot that does not fit its options."""
        if (self.ballot == "basic") == bool(self.options) or len(set(self.options)) != len(self.options):
            raise Invalid(fields=(FieldError("/options", "Expected different options, unless the ballot is basic"),))
        if self.ballot != "basic" and (len(self.options) < 2 or self.actions):
            raise Invalid(fields=(FieldError("/options", "Expected two options or more, and no actions"),))
        return Content(
            proposer=proposer,
            title=self.title,
            text=self.text,
            class_=self.class_,
            actions=self.actions,
            ballot=self.ballot,
            options=self.options,
        )

    def times(self) -> Times:
        """As the service takes it."""
        return Times(voting_starts=self.voting_starts, voting_ends=self.voting_ends)


class GiveReason(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why something is done."""

    reason: Text = ""
    """In your words. For example `A better one follows.`."""


class CastVote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A vote."""

    choice: Literal["for", "against", "abstain"] | None = None
    """On a basic ballot."""
    options: Annotated[tuple[Annotated[int, Meta(ge=0, lt=OPTIONS_MAX)], ...], Meta(max_length=OPTIONS_MAX)] = ()
    """On another: options by their number from 0; the one, all that you approve, or the best first. For example
    `[1]`."""
    weights: Annotated[tuple[Annotated[int, Meta(ge=1, le=WEIGHT_MOST)], ...], Meta(max_length=OPTIONS_MAX)] = ()
    """On a weighted or quadratic ballot, how much of your power goes to each of them, in proportion. For example
    `[3]`."""
    reason: Text = ""
    """Why you vote so. For example `Lower fees bring more work.`."""

    def ballot(self) -> Ballot:
        """As the service takes it."""
        return Ballot(choice=Choice(choice=self.choice, options=self.options, weights=self.weights), reason=self.reason)


class CastSignedVote(CastVote, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A vote that somebody signed off-line."""

    account: AccountId
    """Who votes. For example `acct_01k0000000000000000000000a`."""
    nonce: Annotated[int, Meta(ge=1, le=2**53)]
    """A number higher than in any vote that this key signed before. For example `1`."""
    public_key: PublicKey
    """The key that signed it. For example `11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo`."""
    signature: Signature
    """The Ed25519 signature over the canonical JSON of `account`, `choice` (what is set of choice, options, weights),
    `nonce`, `proposal`, `reason` and `statement` (`aitbc.vote.v1`), in URL-safe base 64. For example
    `AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA`."""

    def signed(self) -> SignedBallot:
        """As the service takes it."""
        return SignedBallot(
            account=self.account,
            ballot=self.ballot(),
            nonce=self.nonce,
            public_key=self.public_key,
            signature=self.signature,
        )


class AddVoterKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that is to sign votes for your account."""

    public_key: PublicKey
    """The Ed25519 public key. For example `11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo`."""
