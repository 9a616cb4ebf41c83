"""Named points where a test lets the process die, as by `kill -9`, to see what is left.

`reach("object.written")` does nothing unless that point is armed. Which points there are, and what
must hold after each, is in test_failpoints.py and test_generation_crashes.py in tests/end_to_end.
"""

import os
import signal


class _Failpoint:
    """`name` is reached `left` times more until the process dies there."""

    name: str | None = None
    left = 0


_armed = _Failpoint()


def arm(point: str) -> None:
    """`point` is a name, or a name and which time: `object.written@2`."""
    name, _, time = point.partition("@")
    _armed.name, _armed.left = name, int(time or 1)


def reach(name: str) -> None:
    if name == _armed.name:
        _armed.left -= 1
        if not _armed.left:
            os.kill(os.getpid(), signal.SIGKILL)
