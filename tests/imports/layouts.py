"""The five layouts as SQL that makes a source of each: some hundreds of rows, good ones and broken ones."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "sources"


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.sql").read_text()


KOMMO_TABLES = _read("kommo_tables")
KOMMO_GOOD = KOMMO_TABLES + _read("kommo_good")
KOMMO = KOMMO_GOOD + _read("kommo_bad")
DISTRIBUTORS = _read("distributors")
WHATSAPP_MODULE = _read("whatsapp_module")
CAMPAIGNS = _read("campaigns")
