"""Where the service is."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from attrs import frozen

from pinch.cli.errors import CommandError, Exit
from pinch.settings import Settings


@frozen
class Address:
    """Scheme, host and port."""

    scheme: str
    host: str
    port: int
    certificate: str = ""
    """PEM file that a TLS service on this machine shows; it is trusted as it stands."""

    @property
    def netloc(self) -> str:
        """Host and port, as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as people write it."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def local(self) -> bool:
        """Whether it is this machine."""
        if self.certificate or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def address(url: str | None, settings: Settings) -> Address:
    """Return the address that `url` (PINCH_URL) gives or, without one, the setting `listen`.

    Raises:
        CommandError: neither can be read.
    """
    scheme = "https" if settings.gateway.tls_certificate else "http"
    parts = urlsplit(url or f"{scheme}://{settings.listen}")
    source = "PINCH_URL" if url else "setting listen"
    try:
        port = parts.port
    except ValueError:
        port = 0
    wrong = parts.scheme not in {"http", "https"} or parts.path not in {"", "/"} or parts.query or parts.username
    if wrong or not parts.hostname or port == 0 or (port is None and not url):
        example = "http://127.0.0.1:18789" if url else "127.0.0.1:18789"
        found = url or settings.listen
        raise CommandError(f"{source} is {found!r}; expected an address such as {example}", exit_status=Exit.USAGE)
    if url:
        return Address(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(parts.hostname, parts.hostname)  # noqa: S104 (compared, not bound)
    assert port is not None
    return Address(scheme, host, port, certificate=settings.gateway.tls_certificate)
