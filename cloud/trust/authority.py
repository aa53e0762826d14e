"""The registry's own certificate authority: who is who on the broker and the API.

    authority/ca.key, ca.pem                the root (EC P-256), known to devices by its SHA-256
              server.key, server.pem        the API and the broker (server authentication only)
              registry.key, registry.pem    the registry as a client of the broker
              crl.pem                       revoked devices, for brokers that read such lists

All are valid from 1970-01-01 on, for devices whose clock died; why is told in `certificates`.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from cloud.trust import certificates
from cloud.trust.certificates import OwnKey
from runtime import files, keyfiles, tls, topics
from runtime.errors import InvalidError
from runtime.topics import DeviceId

SERVER_DAYS = 825
DEVICE_DAYS = 730
RENEW_DAYS = 60
"""The registry renews its own certificates when they are this close to their end."""


REMEDY = "restore it from a backup"


@dataclass(frozen=True)
class Authority:
    """A CA with its files in place; safe to use from several threads, but for `revoke`."""

    directory: Path
    _key: OwnKey
    _root: x509.Certificate

    @property
    def ca_file(self) -> Path:
        """Path of the CA certificate."""
        return self.directory / "ca.pem"

    @property
    def server_cert_file(self) -> Path:
        """Path of the certificate of API and broker."""
        return self.directory / "server.pem"

    @property
    def server_key_file(self) -> Path:
        """Path of its key (0600)."""
        return self.directory / "server.key"

    @property
    def registry_cert_file(self) -> Path:
        """Path of the certificate by which the registry is a client of the broker."""
        return self.directory / "registry.pem"

    @property
    def registry_key_file(self) -> Path:
        """Path of its key (0600)."""
        return self.directory / "registry.key"

    @property
    def crl_file(self) -> Path:
        """Path of the list of revoked certificates."""
        return self.directory / "crl.pem"

    @property
    def ca_pem(self) -> str:
        """The CA certificate."""
        return self.ca_file.read_text("ascii")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA certificate: 64 hexadecimal digits."""
        return tls.fingerprint(self.ca_pem)

    @classmethod
    def open(cls, directory: Path, *, names: Sequence[str] = ()) -> "Authority":
        """Return the authority in `directory`, making what is missing there.

        The server certificate covers this host, loopback and `names`; it is made anew when these
        changed or its end is near. May be interrupted anywhere: the next call completes it.
        """
        files.make_directory(directory)
        files.sweep_temporaries(directory)
        ca_file, key_file = directory / "ca.pem", directory / "ca.key"
        if ca_file.exists() and not key_file.exists():
            # A new key would be a new CA, which no enrolled device trusts.
            raise InvalidError(str(key_file), "no file", "restore it from a backup")
        key = keyfiles.own_key(key_file, remedy=REMEDY)
        root = _certificate_in(ca_file, key)
        if root is None:
            root = certificates.make_root(key)
            _write(ca_file, root)
        authority = cls(directory, key, root)
        authority._renew_server(certificates.subject_names(names))
        authority._renew_registry()
        if not authority.crl_file.exists():
            authority.revoke(())
        return authority

    def sign_device_csr(
        self, csr_pem: str, device_id: DeviceId, *, days: int = DEVICE_DAYS
    ) -> tuple[str, str]:
        """Return a device's certificate (PEM) and its serial number (hexadecimal).

        The request proves that the asker holds the key; who it is, is `device_id`, whatever the
        request says. The serial number is in the subject too, for the embedded broker. Raises
        InvalidError if the request is not acceptable.
        """
        topics.device_id(device_id)
        public_key = certificates.key_of_request(csr_pem)
        signed = self._issue(
            device_id, public_key, days=days, usage=certificates.FOR_CLIENTS, numbered=True
        )
        return certificates.pem(signed), certificates.serial_of(signed)

    def revoke(self, serials: Iterable[str]) -> None:
        """Write the list of revoked certificates: these serial numbers and no others."""
        crl = certificates.revocation_list(self._root, self._key, serials)
        files.write_atomic(self.crl_file, crl.public_bytes(serialization.Encoding.PEM), mode=0o644)

    def _renew_server(self, names: list[x509.GeneralName]) -> None:
        key = keyfiles.own_key(self.server_key_file, remedy=REMEDY)
        old = self._usable(self.server_cert_file, key)
        if old is None or certificates.names_of(old) != set(names):
            signed = self._issue(
                "packhorse registry",
                key.public_key(),
                days=SERVER_DAYS,
                usage=certificates.FOR_SERVERS,
                names=names,
            )
            _write(self.server_cert_file, signed)

    def _renew_registry(self) -> None:
        key = keyfiles.own_key(self.registry_key_file, remedy=REMEDY)
        if self._usable(self.registry_cert_file, key) is None:
            signed = self._issue(
                topics.REGISTRY_USER,
                key.public_key(),
                days=SERVER_DAYS,
                usage=certificates.FOR_CLIENTS,
            )
            _write(self.registry_cert_file, signed)

    def _issue(
        self,
        name: str,
        public_key: certificates.PublicKey,
        *,
        days: int,
        usage: x509.ObjectIdentifier,
        names: Sequence[x509.GeneralName] = (),
        numbered: bool = False,
    ) -> x509.Certificate:
        return certificates.issue(
            self._root,
            self._key,
            name,
            public_key,
            days=days,
            usage=usage,
            names=names,
            numbered=numbered,
        )

    def _usable(self, path: Path, key: OwnKey) -> x509.Certificate | None:
        """Return the certificate at `path` if it is ours, of this key, and far from its end."""
        certificate = _certificate_in(path, key)
        if certificate is None:
            return None
        try:
            certificate.verify_directly_issued_by(self._root)
        except (ValueError, TypeError, InvalidSignature):
            return None
        left = certificate.not_valid_after_utc - dt.datetime.now(dt.timezone.utc)
        return certificate if left > dt.timedelta(days=RENEW_DAYS) else None


def _certificate_in(path: Path, key: OwnKey) -> x509.Certificate | None:
    """Return the certificate at `path` if there is one, and it is of this key."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return certificate if certificate.public_key() == key.public_key() else None


def _write(path: Path, certificate: x509.Certificate) -> None:
    files.write_atomic(path, certificates.pem(certificate).encode(), mode=0o644)
