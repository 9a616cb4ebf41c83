"""What counts as a colour profile (ICC.1:2022, section 7.2): its header is checked, no more."""

from storage.containers.vocabulary import Bounds

HEADER = 128
SIGNATURE = slice(36, 40)


def usable(profile: bytes, bounds: Bounds) -> bytes | None:
    """The profile without what follows its end; None if these bytes are no profile.

    Raises Rejected for one that is too large.
    """
    bounds.admit_profile(len(profile))
    if len(profile) < HEADER + 4 or profile[SIGNATURE] != b"acsp":
        return None
    size = int.from_bytes(profile[:4], "big")
    return profile[:size] if HEADER + 4 <= size <= len(profile) else None
