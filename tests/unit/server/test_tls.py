import ssl
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from server.errors import SettingError
from server.tls import TlsFiles, tls_files
from tests.certificates import Authority, Pair

PASSWORD = "s3cr3t-password"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("server")


def files(pair: Pair, **others: Any) -> TlsFiles:
    found = tls_files(
        pair.certfile,
        pair.keyfile,
        others.get("keyfile_password"),
        others.get("ca_certs"),
        others.get("client_auth"),
    )
    assert found is not None
    return found


def test_nothing_set_is_plain_http() -> None:
    assert tls_files(None, None, None, None, None) is None


def test_a_pair_that_fits(pair: Pair) -> None:
    found = files(pair)
    found.check()
    assert found.uvicorn_options()["ssl_cert_reqs"] is ssl.CERT_NONE


def test_a_key_in_the_file_of_its_certificate(pair: Pair, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pair.certfile.read_bytes() + pair.keyfile.read_bytes())
    found = tls_files(both, None, None, None, None)
    assert found is not None
    found.check()


def test_a_key_with_a_password(authority: Authority) -> None:
    locked = authority.issue("locked", PASSWORD.encode())
    files(locked, keyfile_password=SecretStr(PASSWORD)).check()
    for password, hint in ((None, "its password as"), ("wrong", "another")):
        secret = None if password is None else SecretStr(password)
        with pytest.raises(SettingError) as caught:
            files(locked, keyfile_password=secret).check()
        said = f"ssl_keyfile = '{locked.keyfile}': it is encrypted, and needs {hint} ssl_keyfile_password"
        assert str(caught.value) == said


def test_authorities_named_are_authorities_asked(authority: Authority, pair: Pair) -> None:
    def mode(client_auth: Any) -> Any:
        found = files(pair, ca_certs=authority.ca_certs, client_auth=client_auth)
        found.check()
        return found.uvicorn_options()["ssl_cert_reqs"]

    modes = [mode(client_auth) for client_auth in (None, "required", "optional", "none")]
    assert modes == [ssl.CERT_REQUIRED, ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL, ssl.CERT_NONE]


def test_a_key_of_another_certificate(authority: Authority, pair: Pair) -> None:
    other = authority.issue("other")
    with pytest.raises(SettingError, match="it is not the key of the certificate in ssl_certfile"):
        files(Pair(pair.certfile, other.keyfile)).check()


def test_files_that_are_not_there_or_hold_something_else(pair: Pair, tmp_path: Path) -> None:
    nowhere, garbage = tmp_path / "nowhere.pem", tmp_path / "garbage.pem"
    garbage.write_bytes(b"\x00garbage")
    for wrong, complaint in (
        (files(Pair(nowhere, pair.keyfile)), f"ssl_certfile = '{nowhere}': No such file"),
        (files(Pair(pair.certfile, nowhere)), f"ssl_keyfile = '{nowhere}': No such file"),
        (files(Pair(tmp_path, pair.keyfile)), f"ssl_certfile = '{tmp_path}': Is a directory"),
        (files(Pair(garbage, pair.keyfile)), f"ssl_certfile = '{garbage}', ssl_keyfile = "),
        (files(Pair(pair.certfile, garbage)), f"ssl_certfile = '{pair.certfile}', ssl_keyfile = '{garbage}'"),
        (files(pair, ca_certs=nowhere), f"ssl_ca_certs = '{nowhere}': No such file"),
        (files(pair, ca_certs=garbage), f"ssl_ca_certs = '{garbage}': expected certificates in PEM"),
    ):
        with pytest.raises(SettingError) as caught:
            wrong.check()
        assert str(caught.value).startswith(complaint)


def test_settings_that_need_others(pair: Pair) -> None:
    with pytest.raises(SettingError, match="ssl_keyfile: it needs an ssl_certfile"):
        tls_files(None, pair.keyfile, None, None, None)
    with pytest.raises(SettingError, match="ssl_client_auth: it needs an ssl_certfile"):
        tls_files(None, None, None, None, "required")
    with pytest.raises(SettingError, match="ssl_client_auth = 'required': it needs ssl_ca_certs"):
        tls_files(pair.certfile, pair.keyfile, None, None, "required")


def test_a_broken_pair_leaves_what_serves_alone(authority: Authority) -> None:
    pair = authority.issue("renewed")
    found, serving = files(pair), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert found.reload(serving) == "ssl_certfile: renewed.pem read again"
    pair.keyfile.write_bytes(authority.issue("another").keyfile.read_bytes())
    with pytest.raises(SettingError):
        found.reload(serving)
