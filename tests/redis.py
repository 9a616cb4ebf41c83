"""A Redis server that runs anyway, and one of our own to be frozen."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import NoReturn

import pytest
from redis import Redis, exceptions

DEFAULT = "redis://127.0.0.1:6379/0"


@pytest.fixture(scope="session")
def redis_url() -> str:
    """A Redis server. Without one: a visible skip, or a failure if REQUIRE_SERVICES is set.

    Others may use it, too: subscribe to names of your own, and flush nothing.
    """
    url = find_server()
    if url is None:
        _missing("no Redis on 127.0.0.1:6379, and none named by TEST_REDIS_URL")
    return url


def find_server() -> str | None:
    """The one that TEST_REDIS_URL names, or one on the standard port, or None."""
    url = os.environ.get("TEST_REDIS_URL", DEFAULT)
    return url if _answers(url) else None


def _answers(url: str) -> bool:
    with Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3) as client:
        try:
            client.ping()
        except exceptions.ConnectionError:
            return False
    return True


class OwnRedis:
    """A Redis server that keeps nothing, on a free port; freezing it breaks no connection."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            _missing("no redis-server on the path")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{port}/0"
        self._command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._command, "--save", "", "--appendonly", "no"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not _answers(self.url):
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.05)

    def freeze(self) -> None:
        """From now on it answers nothing, and its connections stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)


def _missing(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_SERVICES"):
        pytest.fail(reason)
    pytest.skip(reason)
