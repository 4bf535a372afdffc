import pytest

from server.access.cross_site import is_cross_site


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "wattline.example"])
@pytest.mark.parametrize(
    "origin", ["http://127.0.0.1:3000", "http://localhost:8000", "http://[::1]:1", "vscode-webview://abc", "file://"]
)
def test_pages_of_this_machine_may_ask(host: str, origin: str) -> None:
    assert not is_cross_site([(b"host", host.encode()), (b"origin", origin.encode())])


def test_who_is_no_browser_may_ask_and_our_own_page_too() -> None:
    assert not is_cross_site([(b"host", b"wattline.example:8000")])
    assert not is_cross_site([(b"host", b"wattline.example:8000"), (b"origin", b"http://wattline.example:8000")])
    assert not is_cross_site([(b"host", b"Wattline.example"), (b"origin", b"https://wattline.example")])


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
    assert is_cross_site([(b"host", b"127.0.0.1:8000"), (b"origin", origin.encode())])
    assert is_cross_site([(b"origin", origin.encode())])
