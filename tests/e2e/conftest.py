"""A real SuperLink and SuperNodes over TLS on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def certify(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 that vouches for itself, and its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    (folder / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "server.key").write_bytes(secret)
    return folder / "server.pem", folder / "server.key"


@dataclass
class Federation:
    """The processes of a deployment: one SuperLink, and SuperNodes; they can be killed."""

    folder: Path
    home: Path
    link: subprocess.Popen | None = None
    nodes: list[subprocess.Popen] = field(default_factory=list)

    def run(self, **config: Path) -> subprocess.Popen:
        """Start `flwr run .` from the repository's root with this run configuration."""
        settings = " ".join(f"{key.replace('_', '-')}='{path}'" for key, path in config.items())
        return self.start("run", "flwr", "run", ".", "--run-config", settings, "--stream")

    def start(self, name: str, *command: str) -> subprocess.Popen:
        """Start a process whose output goes to `name`.log."""
        quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
        where = {"FLWR_HOME": str(self.home), "PATH": f"{BIN}:{os.environ['PATH']}"}
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **quiet, **where},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, number: int) -> None:
        """End a SuperNode, and what it started, as a power cut would."""
        cut_power(self.nodes[number])

    def kill_server(self) -> None:
        """End the SuperLink, and the ServerApp that it started, in the same way."""
        assert self.link is not None
        cut_power(self.link)

    def logs(self) -> str:
        """Everything that the processes said."""
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(self.folder.glob("*.log")))


def cut_power(process: subprocess.Popen) -> None:
    """Kill a process and all that it started, whatever sessions these are in."""
    doomed = [process.pid]
    for pid in doomed:  # it grows: Flower's processes start others, which would go on for a while without them
        os.kill(pid, signal.SIGSTOP)  # and start no more
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            doomed += map(int, children.read_text().split())
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    process.wait()


def stop(process: subprocess.Popen) -> None:
    """End a process kindly, and after 20 seconds not."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_port(port: int, federation: Federation) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"the superlink does not listen:\n{federation.logs()}")


@pytest.fixture
def federation(tmp_path: Path) -> Callable[..., Federation]:
    """A context: a SuperLink, and a SuperNode for each of these node configurations."""

    @contextmanager
    def started(configs: list[str]) -> Iterator[Federation]:
        port = free_port()
        home = tmp_path / f"flower-{port}"
        home.mkdir()
        certificate, key = certify(tmp_path)
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\n'
            f'root-certificates = "{certificate}"\n'
        )
        here = Federation(tmp_path, home)
        link = ["flower-superlink", "--host", "127.0.0.1", "--port", str(port)]
        link += ["--ssl-ca-certfile", str(certificate), "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
        with ExitStack() as stack:
            here.link = here.start("link", *link, "--disable-runtime-dependency-installation")
            stack.callback(stop, here.link)
            wait_for_port(port, here)
            for number, config in enumerate(configs):
                node = ["flower-supernode", "--root-certificates", str(certificate)]
                node += ["--superlink", f"127.0.0.1:{port}", "--port", str(free_port()), "--node-config", config]
                here.nodes.append(here.start(f"node{number}", *node))
                stack.callback(stop, here.nodes[-1])
            yield here

    return started
