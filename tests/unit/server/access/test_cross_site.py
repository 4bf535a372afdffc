import pytest

from server.access.cross_site import is_cross_site


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "wattline.example"])
@pytest.mark.parametrize(
    "origin", ["http://127.0.0.1:3000", "http://localhost:8000", "http://[::1]:1", "vscode-webview://abc", "file://"]
)
def test_pages_of_this_machine_may_ask(host: str, origin: str) -> None:
    assert not is_cross_site([(b"host", host.encode()), (b"origin", origin.encode())], is_local=False)


def test_who_is_no_browser_may_ask_and_our_own_page_too() -> None:
    assert not is_cross_site([(b"host", b"wattline.example:8000")], is_local=False)
    assert not is_cross_site(
        [(b"host", b"wattline.example:8000"), (b"origin", b"http://wattline.example:8000")], is_local=False
    )
    assert not is_cross_site([(b"host", b"Wattline.example"), (b"origin", b"https://wattline.example")], is_local=False)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1.evil.example",
        "http://10.0.0.7:8000",
        "null",
        "http://[",
        "http://",
        "https://localhost@evil.example",
    ],
)
def test_pages_from_elsewhere_may_not(origin: str) -> None:
    assert is_cross_site([(b"host", b"127.0.0.1:8000"), (b"origin", origin.encode())], is_local=False)
    assert is_cross_site([(b"origin", origin.encode())], is_local=False)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "localhost", "LOCALHOST.:1", "[::1]:8000", "wattline:8000", "a.localhost", "127.9.9.9", ""],
)
def test_on_this_machine_alone_its_own_names_are_taken(host: str) -> None:
    assert not is_cross_site([(b"host", host.encode())], is_local=True)


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "evil.example.", "127.0.0.1.nip.io", "10.0.0.7", "[", "localhost@e.vil"]
)
def test_a_name_that_others_can_give_our_address_is_not(host: str) -> None:
    headers = [(b"host", host.encode())]
    assert is_cross_site(headers, is_local=True)
    assert is_cross_site([*headers, (b"origin", b"http://" + host.encode())], is_local=True)
    assert not is_cross_site(headers, is_local=False)
