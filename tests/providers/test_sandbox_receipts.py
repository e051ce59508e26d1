"""Which receipts the sandbox plans, and which addresses and retries it knows. Tables."""

import random

import pytest

from ops.sandbox.courier import RetryPolicy, address_problem
from ops.sandbox.faults import (
    LateReceipts,
    NoReceipts,
    ReceiptError,
    ReceiptFault,
    ReceiptsRepeated,
    ReceiptsShuffled,
)
from ops.sandbox.receipts import Delays, Planned, plan

DELAYS = Delays(sent=1, delivered=2, read=3)
FAILED = ReceiptError(provider="twilio", action="receipt_error", code=63016)
REFUSED_AT_ONCE = ReceiptError(
    provider="twilio", action="receipt_error", code=30005, status="failed", message="gone", after_sent=False
)
QUIET = NoReceipts(provider="twilio", action="no_receipts")
LATE = LateReceipts(provider="twilio", action="late_receipts", seconds=10)
TWICE = ReceiptsRepeated(provider="twilio", action="receipts_repeated", copies=2)
SHUFFLED = ReceiptsShuffled(provider="twilio", action="receipts_shuffled")


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ([], [Planned(1, "sent"), Planned(2, "delivered"), Planned(3, "read")]),
        ([FAILED], [Planned(1, "sent"), Planned(2, "undelivered", "63016")]),
        ([REFUSED_AT_ONCE], [Planned(2, "failed", "30005", "gone")]),
        ([QUIET], [Planned(1, "sent", copies=0), Planned(2, "delivered", copies=0), Planned(3, "read", copies=0)]),
        ([LATE], [Planned(11, "sent"), Planned(12, "delivered"), Planned(13, "read")]),
        ([FAILED, TWICE], [Planned(1, "sent", copies=2), Planned(2, "undelivered", "63016", copies=2)]),
        ([TWICE, FAILED, LATE], [Planned(11, "sent", copies=2), Planned(12, "undelivered", "63016", copies=2)]),
        ([FAILED, SHUFFLED], [Planned(1, "undelivered", "63016"), Planned(2, "sent")]),
    ],
)
def test_a_message_has_the_steps_its_faults_leave_it(faults: list[ReceiptFault], expected: list[Planned]) -> None:
    assert plan(("sent", "delivered", "read"), DELAYS, faults, random.Random(0)) == expected


@pytest.mark.parametrize("seed", range(20))
def test_shuffled_receipts_never_keep_the_true_order(seed: int) -> None:
    steps = plan(("sent", "delivered", "read"), DELAYS, [SHUFFLED], random.Random(seed))
    said = [step.status for step in steps]
    assert said != ["sent", "delivered", "read"]
    assert sorted(said) == ["delivered", "read", "sent"]
    assert [step.after for step in steps] == [1, 2, 3]


@pytest.mark.parametrize(
    ("url", "failure", "attempts", "again"),
    [
        ("http://localhost/x", "ct", 1, True),
        ("http://localhost/x", "ct", 2, False),
        ("http://localhost/x", "5xx", 1, False),
        ("http://localhost/x#rc=5&rp=all", "5xx", 5, True),
        ("http://localhost/x#rc=5&rp=all", "5xx", 6, False),
        ("http://localhost/x#rc=9&rp=all", "rt", 6, False),
        ("http://localhost/x#rc=2&rp=5xx,rt", "4xx", 1, False),
        ("http://localhost/x#rc=2&rp=5xx,rt", "rt", 2, True),
        ("http://localhost/x#rc=0", "ct", 1, False),
        ("http://localhost/x#rc=many", "ct", 1, True),
    ],
)
def test_a_webhook_is_retried_as_its_fragment_asks(url: str, failure: str, attempts: int, again: bool) -> None:
    assert RetryPolicy.of(url).again(failure, attempts) is again


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/w?x=1", "http://127.3.2.1/", "https://localhost/w#rc=5&rp=all", "http://[::1]:1/"]
)
def test_loopback_is_called(url: str) -> None:
    assert address_problem(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://10.0.0.1/",
        "http://localhost.example.com/",
        "http://127.0.0.1@example.com/",
        "http://user:password@127.0.0.1/",
        "http://127.0.0.1.example.com/",
        "http://0x7f000001/",
        "file:///etc/passwd",
        "//127.0.0.1/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nX: y",
        "http://127.0.0.1:port/",
        "http://[::1/",
        "nonsense",
        "",
    ],
)
def test_nothing_else_is_called(url: str) -> None:
    assert address_problem(url)
