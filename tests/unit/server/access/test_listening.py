import pytest

from server.access.listening import check_listening
from server.errors import SettingError

LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "::ffff:127.0.0.1", "localhost", "LOCALHOST", "localhost."]
REACHABLE = ["0.0.0.0", "::", "192.168.1.2", "::ffff:10.0.0.1", "fe80::1%eth0", "example.org", "", "127.0.0.1.evil.org"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_needs_no_key(host: str) -> None:
    check_listening(host, has_keys=False, is_insecure=False)


@pytest.mark.parametrize("host", REACHABLE)
def test_anywhere_else_a_key_is_needed_or_a_clear_word(host: str) -> None:
    check_listening(host, has_keys=True, is_insecure=False)
    check_listening(host, has_keys=False, is_insecure=True)
    with pytest.raises(SettingError) as refusal:
        check_listening(host, has_keys=False, is_insecure=False)
    message = str(refusal.value)
    assert message.startswith(f"host = {host!r}: ")
    assert "\n" not in message
    for way_out in ("127.0.0.1", "wattline keys create", "--insecure"):
        assert way_out in message
