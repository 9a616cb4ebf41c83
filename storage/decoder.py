"""`python -m storage.decoder`: examines one file after the other, under limits of its own.

A line of JSON in, a line of JSON out, until the input ends. `storage.decoders` is the other side.
"""

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path

from storage.containers import Bounds
from storage.errors import Rejected
from storage.examination import Paths, examine

NO_LIMIT = resource.RLIM_INFINITY


def main(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)  # noqa: T201  # it is the answer


def _answer(question: dict[str, dict[str, object]]) -> dict[str, object]:
    _allow_cpu(int(str(question["seconds"]).split(".")[0]) + 2)
    paths = Paths(**{name: Path(str(path)) for name, path in question["paths"].items()})
    try:
        examination = examine(paths, Bounds(**question["bounds"]))  # type: ignore[arg-type]  # as sent
    except Rejected as verdict:
        return {
            "verdict": type(verdict).__name__,
            "message": verdict.message,
            "limit": verdict.limit,
            "actual": verdict.actual,
        }
    return {"examination": asdict(examination)}


def _allow_cpu(seconds: int) -> None:
    """So much CPU time from now on: a second line behind the parent's clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, NO_LIMIT))


if __name__ == "__main__":
    main(int(sys.argv[1]))
