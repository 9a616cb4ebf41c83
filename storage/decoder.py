"""`python -m storage.decoder`: decodes one file after the other, under limits of its own.

A line of JSON in, a line of JSON out, until the input ends. `storage.decoders` is the other side.
"""

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.containers import Bounds
from storage.errors import Rejected
from storage.examination import Paths, examine
from storage.marks import Mark
from storage.quarters import quarter

NO_LIMIT = resource.RLIM_INFINITY


def main(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)  # noqa: T201  # it is the answer


def _answer(question: dict[str, Any]) -> dict[str, object]:
    _allow_cpu(int(question["seconds"]) + 2)
    paths = {name: Path(path) for name, path in question["paths"].items()}
    bounds = Bounds(**question["bounds"])
    mark = Mark(question["mark"]) if question["mark"] else None
    try:
        match question["order"]:
            case "quarter":
                return {"quarters": len(quarter(paths["source"], paths["folder"], bounds))}
            case _:
                return {"examination": asdict(examine(Paths(**paths), bounds, mark))}
    except Rejected as verdict:
        return {
            "verdict": type(verdict).__name__,
            "message": verdict.message,
            "limit": verdict.limit,
            "actual": verdict.actual,
        }


def _allow_cpu(seconds: int) -> None:
    """So much CPU time from now on: a second line behind the parent's clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, NO_LIMIT))


if __name__ == "__main__":
    main(int(sys.argv[1]))
