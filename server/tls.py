"""TLS for callers: what the settings name is checked before anything slow starts, and can be taken up again later.

uvicorn makes the context that serves; certificates loaded into it again hold for the connections that come after.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import SecretStr

from server.errors import SettingError

ClientAuth = Literal["none", "optional", "required"]
_VERIFY_MODES: Final[Mapping[ClientAuth, ssl.VerifyMode]] = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate chain with its key, and whose certificates callers must or may show; all of them in PEM."""

    certfile: Path
    keyfile: Path | None
    keyfile_password: SecretStr | None
    ca_certs: Path | None
    client_auth: ClientAuth

    def uvicorn_options(self) -> dict[str, Any]:
        """The arguments of `uvicorn.Config`."""
        return {
            "ssl_certfile": self.certfile,
            "ssl_keyfile": self.keyfile,
            "ssl_keyfile_password": self._password() or None,
            "ssl_ca_certs": self.ca_certs,
            "ssl_cert_reqs": _VERIFY_MODES[self.client_auth],
        }

    def check(self) -> None:
        """Read all the files once.

        Raises:
            SettingError: one of them is not there, or not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load_chain(context)
        if self.ca_certs is not None:
            _readable("ssl_ca_certs", self.ca_certs)
            try:
                context.load_verify_locations(self.ca_certs)
            except (ssl.SSLError, OSError) as error:
                raise SettingError(f"ssl_ca_certs = {str(self.ca_certs)!r}: expected certificates in PEM") from error

    def reload(self, serving: ssl.SSLContext) -> str:
        """Serve new connections with what the certificate's files hold now.

        Raises:
            SettingError: as `check`; what served goes on serving.
        """
        self.check()  # a pair that does not fit would leave half of it behind in the context that serves
        self._load_chain(serving)
        return f"ssl_certfile: {self.certfile.name} read again"

    def _load_chain(self, context: ssl.SSLContext) -> None:
        _readable("ssl_certfile", self.certfile)
        if self.keyfile is not None:
            _readable("ssl_keyfile", self.keyfile)
        try:
            # Without a password of ours OpenSSL would ask for one on the terminal, and wait.
            context.load_cert_chain(self.certfile, self.keyfile, self._password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise SettingError(self._complaint(error)) from error

    def _password(self) -> str:
        return self.keyfile_password.get_secret_value() if self.keyfile_password is not None else ""

    def _complaint(self, error: Exception) -> str:
        """What is wrong with the pair, in the operator's terms; OpenSSL's reasons are an expert's."""
        key = f"ssl_keyfile = {str(self.keyfile)!r}" if self.keyfile is not None else "ssl_keyfile is not set"
        reason = getattr(error, "reason", None) or ""
        if "MISMATCH" in reason:
            return f"{key}: it is not the key of the certificate in ssl_certfile = {str(self.certfile)!r}"
        if b"ENCRYPTED" in (self.keyfile or self.certfile).read_bytes():
            expected = "another" if self._password() else "its password as"
            return f"{key}: it is encrypted, and needs {expected} ssl_keyfile_password"
        return f"ssl_certfile = {str(self.certfile)!r}, {key}: expected a certificate and its private key in PEM"


def tls_files(
    certfile: Path | None,
    keyfile: Path | None,
    keyfile_password: SecretStr | None,
    ca_certs: Path | None,
    client_auth: ClientAuth | None,
) -> TlsFiles | None:
    """The TLS settings as one; None where none are given. Naming authorities is asking callers for certificates.

    Raises:
        SettingError: some are given without others they need.
    """
    if certfile is None:
        others = {"ssl_keyfile": keyfile, "ssl_keyfile_password": keyfile_password, "ssl_ca_certs": ca_certs}
        for name, value in (others | {"ssl_client_auth": client_auth}).items():
            if value is not None:
                raise SettingError(f"{name}: it needs an ssl_certfile, and none is set")
        return None
    if client_auth is None:
        client_auth = "none" if ca_certs is None else "required"
    if client_auth != "none" and ca_certs is None:
        raise SettingError(f"ssl_client_auth = {client_auth!r}: it needs ssl_ca_certs, and none are set")
    return TlsFiles(certfile, keyfile, keyfile_password, ca_certs, client_auth)


def _readable(name: str, file: Path) -> None:
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        raise SettingError(f"{name} = {str(file)!r}: {error.strerror or error}") from error
