"""The measurements of an overhead benchmark, one after the other; its child processes end before it returns or raises.

The engine answers instantly, so whatever is lost is the front end's.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.comparison import Sample
from bench.contest import Contest, hold_contest
from bench.http_load import LoadResult, LoadSettings, chat_request, run_in_process
from bench.overhead.contenders import DIRECT, WATTLINE, Contender, engine, peers, wattline
from bench.overhead.held_streams import HeldStreams, held_in_process
from bench.overhead.memory import IdleStreams, MemoryGrowth, idle_streams, memory_growth
from bench.overhead.peers import PEERS, Peer, PeerUnavailableError, cache_folder, programs_of
from bench.overhead.settings import MODEL, OverheadSettings

_IDLE_TOKENS_PER_SECOND: Final = 0.01  # the first token at once, the second long after the memory has been read
_WARM_SECONDS: Final = 30.0  # at most
_WARM_REQUESTS: Final = 64

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class HeldComparison:
    """The same streams held on the engine directly and through the front end, with the memory of idle ones."""

    direct: HeldStreams
    through: HeldStreams
    idle: IdleStreams

    @property
    def added_gap_p99_seconds(self) -> float | None:
        direct, through = self.direct.gap_p99_seconds, self.through.gap_p99_seconds
        return None if direct is None or through is None else through - direct

    def as_json(self) -> dict[str, Any]:
        return {
            "direct": asdict(self.direct),
            "through": asdict(self.through),
            "added_gap_p99_seconds": self.added_gap_p99_seconds,
            "memory": self.idle.as_json(),
        }


@dataclass(frozen=True, slots=True)
class OverheadResult:
    """Rates are requests per second of tiny chats, and streamed events per second.

    `stream_chunks` come from an engine that writes each token on its own, as vLLM does; `coalesced_chunks` from one
    that fills the socket with as many as it takes, which measures the copying of bytes rather than of tokens.
    `left_out` are peers that could not be had, with the reasons. `switched_on` is what the front end had to do beside.
    """

    chat_requests: Contest
    stream_chunks: Contest
    coalesced_chunks: Contest
    memory: MemoryGrowth
    held: HeldComparison | None
    switched_on: tuple[str, ...]
    versions: dict[str, str]
    left_out: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        return {
            "chat_requests_per_second": _contest_json(self.chat_requests),
            "stream_chunks_per_second": _contest_json(self.stream_chunks),
            "coalesced_chunks_per_second": _contest_json(self.coalesced_chunks),
            "memory": self.memory.as_json(),
            "held_streams": self.held.as_json() if self.held is not None else None,
            "switched_on": list(self.switched_on),
            "peers": self.versions,
            "left_out": self.left_out,
        }


def run(settings: OverheadSettings, say: Say) -> OverheadResult:
    """Measures rates, memory, and held streams where they are asked for.

    Raises:
        ChildFailedError: the engine, the front end or an installed peer did not start.
    """
    chosen, left_out = _installed(settings.peers, say)
    with engine(settings) as direct:
        with wattline(settings, direct.url) as ours, peers(chosen, direct.url) as others:
            switched_on = ours.switched_on
            contenders = (direct, ours, *others)
            for one in contenders:
                _warm_up(settings, one)
            say(f"tiny chats: {', '.join(one.name for one in contenders)}")
            chats = _contest("tiny chat requests/s", _chat_sample, settings, contenders)
            say("streams")
            streams = _contest("streamed chunks/s", _stream_sample, settings, contenders)
        say("memory")
        with wattline(settings, direct.url) as ours:
            memory = memory_growth(settings, ours)
    with engine(settings, tokens_per_write=0) as direct, wattline(settings, direct.url) as ours:
        coalesced = _contest("coalesced chunks/s", _stream_sample, settings, (direct, ours))
    held = _held(settings, say) if settings.held.streams else None
    versions = {peer.name: peer.requirement for peer, _ in chosen}
    return OverheadResult(chats, streams, coalesced, memory, held, switched_on, versions, left_out)


def _installed(names: Sequence[str], say: Say) -> tuple[list[tuple[Peer, Path]], dict[str, str]]:
    chosen, left_out = [], {}
    for name in names:
        say(f"looking for {PEERS[name].requirement}, which is installed once")
        try:
            chosen.append((PEERS[name], programs_of(PEERS[name], cache_folder())))
        except PeerUnavailableError as error:
            left_out[name] = str(error)
            say(f"{name} is left out: {error}")
    return chosen, left_out


def _contest(
    name: str,
    sample: Callable[[OverheadSettings, Contender], Sample],
    settings: OverheadSettings,
    contenders: Sequence[Contender],
) -> Contest:
    return hold_contest(name, {one.name: partial(sample, settings, one) for one in contenders}, settings.rounds)


def _chat_sample(settings: OverheadSettings, contender: Contender) -> Sample:
    result = _load(settings, contender, max_tokens=1, stream=False)
    return Sample(result.requests_per_second, result.errors)


def _stream_sample(settings: OverheadSettings, contender: Contender) -> Sample:
    result = _load(settings, contender, max_tokens=settings.stream_max_tokens, stream=True)
    return Sample(result.chunks_per_second, result.errors)


def _load(settings: OverheadSettings, contender: Contender, *, max_tokens: int, stream: bool) -> LoadResult:
    url = contender.url
    request = chat_request(url, model=MODEL, max_tokens=max_tokens, stream=stream, headers=contender.headers)
    return run_in_process(LoadSettings(url, request, settings.connections, settings.seconds))


def _warm_up(settings: OverheadSettings, contender: Contender) -> None:
    """What a server loads and connects with its first answers is not measured; some take seconds for the first."""
    for stream in (False, True):
        request = chat_request(contender.url, model=MODEL, max_tokens=2, stream=stream, headers=contender.headers)
        run_in_process(LoadSettings(contender.url, request, settings.connections, _WARM_SECONDS, _WARM_REQUESTS))


def _held(settings: OverheadSettings, say: Say) -> HeldComparison:
    held = settings.held
    say(f"{held.streams} streams held for {held.seconds:.0f} s, directly and then through the front end")
    with engine(settings, decode_tokens_per_second=held.tokens_per_second) as direct:
        without = _hold(settings, direct)
        with wattline(settings, direct.url, tokens_per_second=held.tokens_per_second) as ours:
            through = _hold(settings, ours)
    with (
        engine(settings, decode_tokens_per_second=_IDLE_TOKENS_PER_SECOND) as direct,
        wattline(settings, direct.url, tokens_per_second=_IDLE_TOKENS_PER_SECOND) as ours,
    ):
        return HeldComparison(without, through, idle_streams(settings, ours))


def _hold(settings: OverheadSettings, contender: Contender) -> HeldStreams:
    tokens = settings.held.max_tokens
    request = chat_request(contender.url, model=MODEL, max_tokens=tokens, stream=True, headers=contender.headers)
    return held_in_process(contender.url, request, settings.held)


def _contest_json(contest: Contest) -> dict[str, Any]:
    """The engine and the front end under the names they have in every benchmark, and everybody under their own."""
    rates = {who: [sample.rate for sample in samples] for who, samples in contest.samples.items()}
    return {
        "name": contest.name,
        "direct": rates[DIRECT],
        "through": rates[WATTLINE],
        "direct_median": contest.median(DIRECT),
        "through_median": contest.median(WATTLINE),
        "ratio": contest.ratio(WATTLINE, DIRECT),
        "errors": sum(map(contest.errors, contest.samples)),
        "contenders": contest.as_json(),
        "ratios": {who: contest.ratio(WATTLINE, who) for who in contest.samples if who != WATTLINE},
    }
