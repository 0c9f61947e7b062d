"""Who can read what a job is asked and answers, in words that promise nothing that is not done; pure."""

from aitbc.modules.ai.models.checks.tiers import NONE, copies_of, is_quorum

NOT_HIDDEN = "work is not hidden from the machine that does it"


def readers_of(
    *, verification: str, booking: str | None, kept_seconds: int, has_files: bool, judged_by_plugins: bool
) -> tuple[str, ...]:
    """Who can read it, each with what and for how long."""
    readers = [_miners(verification, booking)]
    if booking is None:
        readers.append("The owners of further miners, where an attempt fails or is lost and another one takes the job.")
    readers.append(
        "The operators of this platform, and whoever reads its database or its backups: input, output and log lie there as they "
        f"are, until {kept_seconds} seconds after the end and, in backups, for as long as these are kept."
    )
    if has_files:
        readers.append("They likewise read files that the job refers to, which are kept for as long as artifacts are.")
    if judged_by_plugins:
        readers.append("Plugins of this platform that judge results: outputs of up to 32 KiB.")
    return tuple(readers)


def _miners(verification: str, booking: str | None) -> str:
    if booking is not None:
        return f"The owner of the miner that you booked: {NOT_HIDDEN}."
    if is_quorum(verification):
        return f"The owners of the {copies_of(verification)} miners that take it: {NOT_HIDDEN}."
    if verification != NONE:
        return f"The owner of the miner that takes it, and of a trusted one that may check it: {NOT_HIDDEN}."
    return f"The owner of the miner that takes it: {NOT_HIDDEN}."
