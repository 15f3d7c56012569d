"""TLS for the two inference ports; management and figures stay plain and on this machine.

Flow: certificate and key files -> checked -> the front, which shows them -> a context that trusts the certificate.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from servekit.paths import SetupError


@dataclass(frozen=True)
class Tls:
    """A server's certificate (PEM, the chain) and its private key (PEM, without a password)."""

    certificate: Path
    private_key: Path

    def check(self) -> None:
        """Both files must be readable and belong together; the front could only end."""
        for name, path in (("certificate", self.certificate), ("private key", self.private_key)):
            if not path.is_file():
                raise SetupError(f"{name}: got no file {path}, expected a PEM file; name another")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.private_key, lambda: "")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise SetupError(
                f"certificate: got {self.certificate} and {self.private_key} ({error}), expected a PEM certificate and "
                "its own key without a password"
            ) from error


def trusting(certificate: str) -> ssl.SSLContext | None:
    """A context that trusts a server's own certificate; None for a server without one."""
    return ssl.create_default_context(cafile=certificate) if certificate else None
