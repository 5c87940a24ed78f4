"""Stand-ins for the documentation sites: one TLS server on loopback that answers in the name of any host.

The guard in front of it is the one in use: only the address that counts as public, port and authority are the tests'.
"""

import contextlib
import datetime
import functools
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.docsearch.connecting import Opener

LOOPBACK = "127.0.0.1"
HOSTS = ("docs.python.org", "fastapi.tiangolo.com", "stackoverflow.com", "*.readthedocs.io")
HOSTS += ("api.stackexchange.com", "serpapi.com")
Answer = Callable[[str, str], Iterable[bytes]]
"""(host, target) to the bytes of the whole answer, piece by piece."""


def reply(body: bytes = b"<p>hello</p>", *, status: str = "200 OK", **headers: str) -> list[bytes]:
    """An answer with Content-Length; content_type="text/html" and the like become headers."""
    given = {"content_type": "text/html; charset=utf-8", "content_length": str(len(body))} | headers
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return [f"HTTP/1.1 {status}\r\n{lines}\r\n".encode(), body]


def redirect(to: str, status: str = "302 Found") -> list[bytes]:
    return reply(b"", status=status, location=to)


class Sites:
    """What was asked of the server, and how it is reached."""

    def __init__(self, folder: Path, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[str] = []
        """Heads of the requests, as they came."""
        self.names: list[str] = []
        """Names that the resolver was asked for."""
        self.connections = 0
        self._server = socket.create_server((LOOPBACK, 0))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(folder / "site.pem")
        client = ssl.create_default_context(cafile=folder / "authority.pem")
        port = self._server.getsockname()[1]
        self.opener = Opener(also_public=frozenset({LOOPBACK}), port=port, tls=client)
        threading.Thread(target=self._serve, daemon=True).start()

    def resolver(self, host: str) -> list[str]:
        self.names.append(host)
        return [LOOPBACK]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.connections += 1
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError), self._tls.wrap_socket(connection, server_side=True) as secured:
            while head := _head(secured):
                self.requests.append(head)
                found = re.match(r"GET (\S+) HTTP/1\.1\r\n", head)
                host = re.search(r"(?im)^host: (\S+)", head)
                assert found and host, head
                for piece in self.answer(host[1], found[1]):
                    secured.sendall(piece)
                if "connection: close" in head.lower():
                    return


def _head(connection: ssl.SSLSocket) -> str:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = connection.recv(65536)
        if not more:
            return ""
        data += more
    return data.decode("latin-1")


@contextlib.contextmanager
def serving(folder: Path, answer: Answer) -> Iterator[Sites]:
    """folder: of `certificates`."""
    sites = Sites(folder, answer)
    try:
        yield sites
    finally:
        sites.close()


def certificates(folder: Path) -> Path:
    """An authority of the tests' own and one certificate by it for all HOSTS, in two files."""
    authority_key, site_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate("tests", authority_key, authority_key, issuer="tests", is_authority=True)
    site = _certificate("sites", site_key, authority_key, issuer="tests", is_authority=False)
    pem = functools.partial(x509.Certificate.public_bytes, encoding=serialization.Encoding.PEM)
    secret = site_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "authority.pem").write_bytes(pem(authority))
    (folder / "site.pem").write_bytes(secret + pem(site))
    return folder


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    issuer: str,
    is_authority: bool,
) -> x509.Certificate:
    subject, signed_by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, issuer))
    now = datetime.datetime.now(datetime.UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not is_authority:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())
