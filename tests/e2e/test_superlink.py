"""The same two apps on a real SuperLink with stock SuperNodes, started by `flwr run .` from the repository's root."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bract.cli.main import run

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
NODES = 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(home: Path) -> dict[str, str]:
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    return {**os.environ, **quiet, "FLWR_HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}"}


@contextmanager
def process(home: Path, log: Path, *command: str) -> Iterator[subprocess.Popen]:
    with log.open("wb") as out:
        started = subprocess.Popen(command, env=environment(home), stdout=out, stderr=out, start_new_session=True)
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, 9)
                started.wait()


def wait_for_port(port: int, log: Path) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"the superlink does not listen:\n{log.read_text()}")


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


@contextmanager
def federation(folder: Path, shards: Path) -> Iterator[Path]:
    """A SuperLink and two SuperNodes over TLS on loopback, each with its own records and its owner's terms."""
    home, port = folder / "flower", free_port()
    home.mkdir()
    certificate, key = certify(folder)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\n'
        f'root-certificates = "{certificate}"\n'
    )
    (folder / "terms.toml").write_text("max_epsilon = 8.0\ntrusted_server = true\n")
    link = ["flower-superlink", "--host", "127.0.0.1", "--port", str(port)]
    link += ["--ssl-ca-certfile", str(certificate), "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    link += ["--disable-runtime-dependency-installation"]
    with ExitStack() as stack:
        stack.enter_context(process(home, folder / "link.log", *link))
        wait_for_port(port, folder / "link.log")
        for number in range(NODES):
            config = f'data="{shards}/client-{number:03d}.npz" terms="{folder}/terms.toml"'
            node = ["flower-supernode", "--root-certificates", str(certificate)]
            node += ["--superlink", f"127.0.0.1:{port}", "--port", str(free_port()), "--node-config", config]
            stack.enter_context(process(home, folder / f"node{number}.log", *node))
        yield home


def flower_run(home: Path, **config: Path) -> str:
    settings = " ".join(f"{key.replace('_', '-')}='{path}'" for key, path in config.items())
    done = subprocess.run(
        ["flwr", "run", ".", "--run-config", settings, "--stream"],
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=400,
    )
    return done.stdout + done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("noise", ["central", "local"])
def test_flwr_run_trains_on_real_nodes(noise: str, tiny_plan: Path, tmp_path: Path) -> None:
    shards, out = tmp_path / "shards", tmp_path / "deployed"
    settings = ["data.clients=2", "data.split=iid", "cohort.size=2", "cohort.minimum=2", "cohort.rounds=2"]
    settings += [f"privacy.noise={noise}", "cohort.deadline=120"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    assert run(["partition", str(tiny_plan), "--out", str(shards), *chosen]) == 0
    with federation(tmp_path, shards) as home:
        said = flower_run(home, plan=shards / "plan.toml", out=out, test_data=shards / "test.npz")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()] if out.exists() else []
    logs = "\n".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert [line["survivors"] for line in lines] == [2, 2], said + logs
    assert all(line["accuracy"] is not None for line in lines)
    assert (lines[-1]["epsilon"]["server"] is None) == (noise == "central")
    assert lines[-1]["epsilon"]["released"] <= 8.0
    assert len((out / "ledger.jsonl").read_text().splitlines()) == 1 + 2
    assert (out / "model.safetensors").exists()
