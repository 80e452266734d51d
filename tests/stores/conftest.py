"""S3 servers of this machine, and the environment of a user of theirs."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SECRET = "a-secret-that-nobody-prints"
BUCKET = "bucket"


@dataclass
class Server:
    """A server, and what a client needs to know about it."""

    env: dict[str, str]
    url: str


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server with faults, and with a bucket."""
    pytest.importorskip("moto")
    pytest.importorskip("obstore")
    processes: list[subprocess.Popen[str]] = []

    def start(*faults: str) -> Server:
        program = Path(__file__).with_name("server.py")
        process = subprocess.Popen(
            [sys.executable, str(program), BUCKET, *faults], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout
        port = process.stdout.readline().strip()
        assert process.stdout.readline() == "ready\n"
        env = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }
        return Server(env=env, url=f"s3://{BUCKET}/runs")

    yield start
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Server], None]:
    """Makes this process a user of a server, with a cache of its own."""

    def become(server: Server) -> None:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RDVAE_CACHE", str(tmp_path / "own-cache"))

    assert "RDVAE_CACHE" not in os.environ
    return become
