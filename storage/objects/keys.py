"""What a key may be: a plain relative path, without a part that begins with a dot."""

from pathlib import PurePosixPath


def checked(key: str) -> str:
    """Raises ValueError: keys are made by us, so another one is a mistake of ours."""
    path = PurePosixPath(key)
    is_plain = str(path) == key and not path.is_absolute() and "\0" not in key and path.parts
    if not is_plain or any(part.startswith(".") for part in path.parts):
        raise ValueError(f"not a key: {key!r}")
    return key
