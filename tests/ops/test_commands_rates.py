"""palomar rates: the price list is loaded whole or not at all, and each mistake is named with its remedy."""

from pathlib import Path

import pytest

from ops import rate_file
from tests.support.commands import ROOT, palomar

HEADER = "provider,channel,market,category,price,currency,valid_from\n"
GOOD = HEADER + (
    "meta,whatsapp,MX,marketing,0.0305,USD,2026-10-01\n"
    "meta,whatsapp,*,utility,0.0077,USD,2026-10-01\n"
    "twilio,sms,+1787,sms,0.05,USD,2026-01-01\n"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rates.csv"


def test_prices_are_loaded_changed_listed_and_removed(environment: dict[str, str], file: Path) -> None:
    assert "No prices" in palomar(environment, "rates", "list").stdout
    file.write_text(GOOD)
    tried = palomar(environment, "rates", "load", str(file), "--dry-run")
    assert "Would be: 3 added" in tried.stdout
    assert "No prices" in palomar(environment, "rates", "list").stdout

    loaded = palomar(environment, "rates", "load", str(file))
    assert loaded.returncode == 0, loaded.stderr
    assert "+ meta whatsapp MX marketing from 2026-10-01: 0.0305 USD" in loaded.stdout
    assert "3 added, 0 changed, 0 removed, 0 as before" in loaded.stdout
    assert palomar(environment, "rates", "list", "--csv").stdout.splitlines() == [
        HEADER.strip(),
        "meta,whatsapp,*,utility,0.0077,USD,2026-10-01",
        "meta,whatsapp,MX,marketing,0.0305,USD,2026-10-01",
        "twilio,sms,+1787,sms,0.05,USD,2026-01-01",
    ]
    assert "+1787" in palomar(environment, "rates", "list", "--market", "+1787").stdout
    assert "marketing" not in palomar(environment, "rates", "list", "--provider", "twilio").stdout

    file.write_text("\ufeff" + HEADER.replace(",", ";") + "META;WhatsApp;mx;Marketing;0.0310;usd;2026-10-01\r\n\r\n")
    changed = palomar(environment, "rates", "load", str(file), "--replace")
    assert "~ meta whatsapp MX marketing from 2026-10-01: 0.0305 USD → 0.0310 USD" in changed.stdout
    assert "- meta whatsapp * utility from 2026-10-01: 0.0077 USD" in changed.stdout
    assert "0 added, 1 changed, 1 removed, 0 as before" in changed.stdout
    assert "+1787" in palomar(environment, "rates", "list").stdout, "of another provider"


def test_one_wrong_line_loads_nothing_and_is_named(environment: dict[str, str], file: Path) -> None:
    file.write_text(GOOD + 'meta,whatsapp,ES,marketing,"0,0615",EUR,2026-10-01\n' * 30)
    refused = palomar(environment, "rates", "load", str(file))
    assert refused.returncode == 1
    assert 'line 5, price: "0,0615" has a comma. Write a decimal point' in refused.stderr
    assert "and 10 more" in refused.stderr
    assert "Nothing is loaded" in refused.stderr
    assert "No prices" in palomar(environment, "rates", "list").stdout
    assert "can't be read" in palomar(environment, "rates", "load", str(file.with_name("none.csv"))).stderr


def test_a_providers_prices_are_in_one_currency(environment: dict[str, str], file: Path) -> None:
    file.write_text(GOOD)
    assert palomar(environment, "rates", "load", str(file)).returncode == 0
    file.write_text(HEADER + "meta,whatsapp,ES,marketing,0.05,EUR,2026-10-01\n")
    refused = palomar(environment, "rates", "load", str(file))
    assert refused.returncode == 1
    assert "The prices of meta for whatsapp would be in EUR and USD." in refused.stderr
    assert palomar(environment, "rates", "load", str(file), "--replace").returncode == 0
    assert palomar(environment, "rates", "list", "--csv").stdout.count("meta,") == 1


@pytest.mark.parametrize(
    ("line", "field", "remedy"),
    [
        ("pigeon,whatsapp,MX,marketing,1,USD,2026-01-01", "provider", "meta"),
        ("meta,fax,MX,marketing,1,USD,2026-01-01", "channel", "whatsapp"),
        ("meta,whatsapp,Mexico,marketing,1,USD,2026-01-01", "market", "MX"),
        ("meta,whatsapp,ZZ,marketing,1,USD,2026-01-01", "market", "MX"),
        ("meta,whatsapp,52,marketing,1,USD,2026-01-01", "market", "plus sign"),
        ("meta,whatsapp,+052,marketing,1,USD,2026-01-01", "market", "plus sign"),
        ("meta,whatsapp,,marketing,1,USD,2026-01-01", "market", "two letters"),
        ("meta,whatsapp,MX,sms,1,USD,2026-01-01", "category", "marketing"),
        ("meta,whatsapp,MX,marketing,-1,USD,2026-01-01", "price", "0 for one that is free"),
        ("meta,whatsapp,MX,marketing,,USD,2026-01-01", "price", "0.0436"),
        ("meta,whatsapp,MX,marketing,$1,USD,2026-01-01", "price", "digits"),
        ("meta,whatsapp,MX,marketing,1e3,USD,2026-01-01", "price", "digits"),
        ("meta,whatsapp,MX,marketing,NaN,USD,2026-01-01", "price", "digits"),
        ("meta,whatsapp,MX,marketing,٤,USD,2026-01-01", "price", "digits"),
        ("meta,whatsapp,MX,marketing,1000.01,USD,2026-01-01", "price", "one message"),
        ("meta,whatsapp,MX,marketing," + "9" * 5000 + ",USD,2026-01-01", "price", "digits"),
        ("meta,whatsapp,MX,marketing,1,$,2026-01-01", "currency", "USD"),
        ("meta,whatsapp,MX,marketing,1,USD,01/10/2026", "valid_from", "2026-10-01"),
        ("meta,whatsapp,MX,marketing,1,USD,2026-02-30", "valid_from", "2026-10-01"),
        ("meta,whatsapp,MX,marketing,0,5,USD,2026-01-01", "fields", "quotes"),
        ("meta,whatsapp,MX,marketing,1,USD", "fields", "quotes"),
        ('meta,whatsapp,MX,"marketing,1,USD,2026-01-01', "fields", "quotes"),
        ("meta,whatsapp,*,utility,0.0077,USD,2026-10-01\nmeta,whatsapp,*,utility,1,USD,2026-10-01", "market", "Remove"),
    ],
)
def test_a_wrong_line_is_named_with_field_and_remedy(line: str, field: str, remedy: str) -> None:
    with pytest.raises(rate_file.FileRefused) as caught:
        rate_file.read(f"{HEADER}{line}\n".encode())
    (mistake,) = caught.value.mistakes
    assert (mistake.line, mistake.field) == (2 + line.count("\n"), field)
    assert remedy in mistake.remedy
    assert len(str(mistake)) < 300


@pytest.mark.parametrize(
    ("raw", "line", "words"),
    [
        (b"", 1, "provider,channel"),
        (HEADER.encode(), 1, "one price a line"),
        (b"provider,channel,market\nmeta,whatsapp,MX\n", 1, "provider,channel"),
        (GOOD.encode("utf-16"), 1, "CSV UTF-8"),
        (GOOD.encode() + "mé".encode("latin-1"), 5, "CSV UTF-8"),
        (b"x" * (rate_file.MOST_BYTES + 1), 1, "divide it"),
        (HEADER.encode() + b"meta," + b"x" * 200_000, 2, "quotes"),
    ],
)
def test_a_file_that_is_none_is_refused(raw: bytes, line: int, words: str) -> None:
    with pytest.raises(rate_file.FileRefused) as caught:
        rate_file.read(raw)
    (mistake,) = caught.value.mistakes
    assert mistake.line == line
    assert words in str(mistake)


def test_what_is_written_is_read_again() -> None:
    rates = rate_file.read(GOOD.encode())
    assert rate_file.read(rate_file.written(rates).encode()) == rates


def test_the_example_of_the_documentation_is_a_price_list() -> None:
    rates = rate_file.read((ROOT / "docs" / "rates.example.csv").read_bytes())
    assert {one.provider for one in rates} >= {"meta", "twilio"}
    assert rate_file.one_currency(rates) is None
