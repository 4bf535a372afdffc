from pathlib import Path

import pytest

from bench.overhead.peers import PEERS, Peer, PeerUnavailableError, cache_folder, programs_of


def test_the_cache_is_where_the_environment_says() -> None:
    assert cache_folder({"WATTLINE_CACHE_DIR": "/c", "XDG_CACHE_HOME": "/x"}) == Path("/c")
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/wattline")


def test_requirements_name_one_version_and_what_belongs_to_it() -> None:
    assert all(peer.requirement.endswith(f"=={peer.version}") for peer in PEERS.values())
    assert PEERS["litellm"].requirement.startswith("litellm[proxy]==")


def test_a_peer_that_no_index_has_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    absent = Peer("absent", "wattline-absent-peer", "1.0", "", "/health", 1.0, needs_key=False, command=lambda _: [])
    with pytest.raises(PeerUnavailableError, match=r"wattline-absent-peer==1\.0 cannot be installed"):
        programs_of(absent, tmp_path)
    assert not list(tmp_path.glob("peers/*/.complete"))
