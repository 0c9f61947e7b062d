"""Why ai refuses what it is asked."""

from aitbc.kernel.primitives.errors import Conflict, Invalid, NotFound, TooLarge, TooMany


class JobNotFound(NotFound):
    """There is no such job."""

    code = "job_not_found"


class BookingNotFound(NotFound):
    """There is no such booking, or it is not yours."""

    code = "booking_not_found"


class BookingNotOpen(Conflict):
    """This booking is not active."""

    code = "booking_not_active"


class TooManyOpenJobs(TooMany):
    """This account has as many open jobs as it may have; some must end first.

    Wait until some have ended, or cancel those that are no longer wanted.
    """

    code = "too_many_open_jobs"


class LeaseLost(Conflict):
    """This lease is no longer valid: it ran out, was taken over, or the job has ended."""

    code = "lease_lost"


class HoldExpired(Conflict):
    """The money of this job is no longer held, so its result cannot be paid and is not taken; the job has ended.

    It is nobody's fault but the platform's: it was down, or its clock wrong, for longer than money is held.
    """

    code = "hold_expired"


class StopAsked(Conflict):
    """The job's owner asked to finish early: the result is exactly the text that was told in parts until then.

    Ask with an empty list of parts how far they are kept, and deliver those.
    """

    code = "stop_asked"


class NotToldInParts(Invalid):
    """Outputs of this kind of work are not told in parts."""

    code = "not_told_in_parts"


class PartsTooLarge(TooLarge):
    """An output may be told in so many parts and bytes, and no more; deliver the whole as the result."""

    code = "parts_too_large"


class WrongSignature(Invalid):
    """The signature does not match the work statement and the miner's key."""

    code = "wrong_signature"


class WrongDigest(Invalid):
    """The digest that was sent is not that of the output."""

    code = "wrong_digest"


class OutputTooLarge(TooLarge):
    """An output of more than 64 KiB is uploaded as an artifact first."""

    code = "output_too_large"


class ArtifactNotFound(NotFound):
    """There is no such artifact."""

    code = "artifact_not_found"
