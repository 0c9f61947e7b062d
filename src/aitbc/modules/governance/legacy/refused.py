"""What of the older coordinator's governance nobody can serve; no client of its days calls any of it."""

from aitbc.kernel.legacy.not_done import not_done

READ, WRITE = "governance:read", "governance:write"
_ENHANCED = "/v1/governance-enhanced"
COUNCILS = not_done(
    "There are no regional councils: power comes from stake, and one treasury pays what proposals decide.",
    read=READ,
    write=WRITE,
    gets=(
        f"{_ENHANCED}/regional-councils",
        f"{_ENHANCED}/treasury/transactions",
        f"{_ENHANCED}/treasury/balance",
        f"{_ENHANCED}/jurisdictions",
        f"{_ENHANCED}/compliance/check/{{address:str}}",
        f"{_ENHANCED}/analytics/regional-health/{{region:str}}",
    ),
    posts=(
        f"{_ENHANCED}/regional-councils",
        f"{_ENHANCED}/regional-proposals",
        f"{_ENHANCED}/regional-proposals/{{proposal:str}}/vote",
        f"{_ENHANCED}/treasury/allocate",
    ),
)
ENHANCED = not_done(
    "Profiles, delegation and figures are at /v1/governance: /v1/governance-enhanced had its arguments in the query.",
    read=READ,
    write=WRITE,
    gets=(
        f"{_ENHANCED}/profiles/{{user:str}}",
        f"{_ENHANCED}/analytics/governance",
        f"{_ENHANCED}/health",
        f"{_ENHANCED}/status",
    ),
    posts=(f"{_ENHANCED}/profiles/create", f"{_ENHANCED}/profiles/delegate"),
)
POOLS = not_done(
    "Stake gives power here and no interest: nothing is paid for it. Lock it at /api/v1/governance/stake/lock.",
    read=READ,
    write=WRITE,
    gets=(
        f"{_ENHANCED}/staking/pools",
        "/stakes",
        "/stake/{stake:str}",
        "/stake/{stake:str}/rewards",
        "/staking/stats",
        "/staking/leaderboard",
        "/staking/my-positions",
        "/staking/my-rewards",
        "/staking/risk-assessment/{wallet:str}",
    ),
    posts=(
        f"{_ENHANCED}/staking/pools",
        f"{_ENHANCED}/staking/calculate-rewards",
        f"{_ENHANCED}/staking/distribute-rewards/{{pool:str}}",
        "/stake",
        "/stake/{stake:str}/add",
        "/stake/{stake:str}/unbond",
        "/stake/{stake:str}/complete",
        "/staking/claim-rewards",
    ),
)
