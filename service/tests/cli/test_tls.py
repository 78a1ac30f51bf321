import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.tests.cli.command import Pinch


def certificate(folder: Path, name: str) -> Path:
    """Write a self-signed certificate for a name that is not loopback's, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pi.example")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    built = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    path = folder / name
    path.write_bytes(
        built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


class Recall(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        content = json.dumps({"hits": [], "mode": "keyword", "degraded": False}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = certificate(tmp_path, "mine.pem")
    server = HTTPServer(("127.0.0.1", 0), Recall)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield path, server.server_port
    server.shutdown()
    server.server_close()


def test_the_services_own_certificate_is_trusted_whatever_its_name(listening: tuple[Path, int]) -> None:
    path, port = listening
    environ = {"PINCH_LISTEN": f"0.0.0.0:{port}", "PINCH_GATEWAY_TLS_CERTIFICATE": str(path), "PINCH_TOKEN": "t" * 20}
    assert Pinch(environ).json("recall", "q")["hits"] == []


def test_another_certificate_is_not(listening: tuple[Path, int], tmp_path: Path) -> None:
    _, port = listening
    other = certificate(tmp_path, "other.pem")
    environ = {
        "PINCH_LISTEN": f"127.0.0.1:{port}",
        "PINCH_GATEWAY_TLS_CERTIFICATE": str(other),
        "PINCH_TOKEN": "t" * 20,
    }
    assert "certificate is not trusted" in Pinch(environ).fails(3, "recall", "q")
    del environ["PINCH_GATEWAY_TLS_CERTIFICATE"]
    assert "certificate" in Pinch({**environ, "PINCH_URL": f"https://127.0.0.1:{port}"}).fails(3, "recall", "q")
