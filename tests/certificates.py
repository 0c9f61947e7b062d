"""Certificates for servers of tests."""

import subprocess
from pathlib import Path


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for this machine, and its key, made at the first call."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    if not chain.exists():
        new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(chain)]
        subprocess.run([*new.split(), *names], check=True, capture_output=True)
    return chain, key
