from server.exchange_record import ExchangeRecord
from server.ledger_of_aborts import LedgerOfAborts


def record(request_id: str, tier: str = "default") -> ExchangeRecord:
    return ExchangeRecord(request_id, "/v1/completions", "t", "m", tier)


class Charged:
    def __init__(self) -> None:
        self.charges: list[tuple[str, float]] = []
        self.ledger = LedgerOfAborts(lambda record, joules: self.charges.append((record.tier, joules)))


def test_a_charge_finds_its_request() -> None:
    charged = Charged()
    charged.ledger.expect("a", record("a", "flex"))
    charged.ledger.charged("a", 1.5)
    assert charged.charges == [("flex", 1.5)]


def test_what_nobody_here_asked_for_is_nobodys_here() -> None:
    charged = Charged()
    charged.ledger.charged("a", 1.5)
    assert charged.charges == []


def test_two_aborts_of_one_id_are_two_charges() -> None:
    charged = Charged()
    charged.ledger.expect("a", record("a"))
    charged.ledger.expect("a", record("a"))
    charged.ledger.charged("a", 1.0)
    charged.ledger.charged("a", 2.0)
    assert charged.charges == [("default", 1.0), ("default", 2.0)]


def test_an_id_is_known_once_a_request_has_ended_under_it_and_is_charged_to_nobody() -> None:
    charged = Charged()
    charged.ledger.ended("a")
    assert charged.ledger.knows("a")
    charged.ledger.charged("a", 1.0)
    assert charged.charges == []


def test_the_oldest_are_forgotten_and_memory_is_bounded() -> None:
    charged = Charged()
    for number in range(5000):
        charged.ledger.expect(str(number), record(str(number)))
        charged.ledger.expect("often", record("often"))
    charged.ledger.charged("0", 1.0)
    charged.ledger.charged("4999", 2.0)
    charged.ledger.charged("often", 3.0)
    assert charged.charges == [("default", 2.0), ("default", 3.0)]
