"""Processes that decode what nobody has checked: few, bounded, without secrets, and killable.

A thread that a hostile file holds cannot be stopped; a process can. Files travel by their paths,
and answers as JSON, since a decoder that was taken over must not hand us a pickle.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage import quarters
from storage.containers import Bounds
from storage.errors import (
    CorruptFile,
    RateLimited,
    Rejected,
    TooManyPixels,
    UnsupportedMediaType,
)
from storage.examination import Examination, Paths
from storage.marks import Mark

log = logging.getLogger(__name__)

VERDICTS = {
    kind.__name__: kind for kind in (CorruptFile, Rejected, TooManyPixels, UnsupportedMediaType)
}


class Decoders:
    """`workers` processes at most, started when they are needed, and `waiting` files behind them.

    A process that takes longer than `seconds` for a file, or more than `memory_bytes` of address
    space, is ended with its file. Whoever made the Decoders closes them.
    """

    def __init__(self, *, workers: int, waiting: int, seconds: float, memory_bytes: int) -> None:
        self._workers = asyncio.Semaphore(workers)
        self._places = workers + waiting
        self._taken = 0
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._idle: list[_Decoder] = []
        self._is_closed = False

    async def examine(self, paths: Paths, bounds: Bounds, mark: Mark | None = None) -> Examination:
        """Raises UnsupportedMediaType, CorruptFile, TooManyPixels, Rejected, or RateLimited."""
        told = await self._have_done("examine", asdict(paths), bounds, mark)
        return Examination(**told["examination"])

    async def quarter(self, source: Path, folder: Path, bounds: Bounds) -> list[Path]:
        """The four quarters of a picture, as `storage.quarters` puts them into the folder.

        Raises what `examine` does.
        """
        await self._have_done("quarter", {"source": source, "folder": folder}, bounds)
        return [folder / name for name in quarters.NAMES]  # whatever the decoder says

    async def _have_done(
        self, order: str, paths: Mapping[str, Path], bounds: Bounds, mark: Mark | None = None
    ) -> Mapping[str, Any]:
        """What a decoder answers to the order, once there is one."""
        if self._taken >= self._places:
            raise RateLimited(
                f"{self._taken} pictures are being taken in already. Try again in a few seconds.",
                retry_after=self._seconds,
            )
        self._taken += 1
        try:
            async with self._workers, self._decoder() as decoder:
                told = await self._ask(decoder, order, paths, bounds, mark)
        finally:
            self._taken -= 1
        if isinstance(told, Rejected):
            raise told
        return told

    async def close(self) -> None:
        """A process that is at work ends with its file."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().end()

    @asynccontextmanager
    async def _decoder(self) -> AsyncIterator["_Decoder"]:
        """One that is idle, or a new one; back among the idle only if nothing went wrong."""
        # One may have died in its sleep, which is not the next file's fault.
        self._idle = [decoder for decoder in self._idle if decoder.is_alive]
        decoder = self._idle.pop() if self._idle else await _Decoder.start(self._memory_bytes)
        try:
            yield decoder
        except BaseException:
            await decoder.end()
            raise
        if self._is_closed:
            await decoder.end()
        elif decoder.is_alive:
            self._idle.append(decoder)

    async def _ask(
        self,
        decoder: "_Decoder",
        order: str,
        paths: Mapping[str, Path],
        bounds: Bounds,
        mark: Mark | None,
    ) -> Mapping[str, Any] | Rejected:
        """What the decoder says; a file that it refuses is nothing that went wrong with it."""
        question = {
            "order": order,
            "paths": {name: str(path) for name, path in paths.items()},
            "bounds": asdict(bounds),
            "mark": mark,
            "seconds": self._seconds,
        }
        try:
            async with asyncio.timeout(self._seconds):
                answer = await decoder.ask(json.dumps(question).encode())
        except TimeoutError:
            raise Rejected(
                f"The picture takes longer than {self._seconds:g} seconds to decode. "
                "Export it anew, without progressive scans.",
                field="file",
                limit=self._seconds,
            ) from None
        if answer is None:
            log.warning("decoder.died")
            raise CorruptFile(
                "The file breaks the decoder, or needs too much memory. Export it anew.",
                field="file",
            )
        told: dict[str, Any] = json.loads(answer)
        if "verdict" in told:
            verdict = VERDICTS[told["verdict"]]
            return verdict(
                str(told["message"]), field="file", limit=told["limit"], actual=told["actual"]
            )
        return told


class _Decoder:
    """A running `python -m storage.decoder`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, memory_bytes: int) -> "_Decoder":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "storage.decoder",
            str(memory_bytes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # No credentials: nothing of ours but where the code is.
            env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            cwd=Path(__file__).parents[1],
            start_new_session=True,  # Ctrl+C is for the service, which ends its decoders itself
        )
        return cls(process)

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, question: bytes) -> bytes | None:
        """The answer; None when the process died instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(question + b"\n")
            await self._process.stdin.drain()
            answer = await self._process.stdout.readline()
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        if not answer.endswith(b"\n"):
            await self.end()
            return None
        return answer

    async def end(self) -> None:
        if self.is_alive:
            self._process.kill()
        await self._process.communicate()
