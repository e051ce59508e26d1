"""palomar contacts import: a file goes in once, however often the command is run, and wrong lines are listed."""

import asyncio
import gzip
from pathlib import Path

from shared.settings import Settings
from tests.support.commands import palomar
from tests.support.stage import staged

FILE = "phone,name,groups,city\n55 1234 5678,Ana,VIP,Lima\nnot a number,=1+1,,\n+14155238886,Bea,,\n"


async def test_a_file_goes_in_once_and_wrong_lines_are_listed(
    environment: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    file, errors = tmp_path / "contacts.csv.gz", tmp_path / "errors.csv"
    file.write_bytes(gzip.compress(FILE.encode()))
    arguments = ("contacts", "import", str(file), "--default-country", "MX", "--group", "Everyone")
    async with staged(settings) as stage:
        ran = await asyncio.to_thread(palomar, environment, *arguments, "--errors", str(errors))
        assert ran.returncode == 1
        assert "phone_number" in ran.stdout
        assert "city" in ran.stdout
        assert "4 of 4" in ran.stderr
        assert str(errors) in ran.stderr
        header, line = errors.read_text().splitlines()
        assert header == "line,field,code,detail,remedy,outcome"
        assert line.startswith("3,phoneNumber,phone_number,")
        assert "1+1" not in line
        assert await stage.count("contacts") == 2
        assert await stage.count("contact_addresses") == 2
        assert await stage.count("group_contacts") == 3
        assert await stage.count("events WHERE name = 'contact.created'") == 2
        again = await asyncio.to_thread(palomar, environment, *arguments)
        assert "imported before" in again.stdout
        assert await stage.count("contact_imports") == 1
        anew = await asyncio.to_thread(palomar, environment, *arguments, "--again")
        assert "imported before" not in anew.stdout
        assert await stage.count("contact_imports") == 2
        assert await stage.count("events WHERE name LIKE 'contact.%'") == 2


def test_what_is_wrong_with_the_call_is_said_with_the_remedy(environment: dict[str, str], tmp_path: Path) -> None:
    for name, text in (("good.csv", FILE), ("contacts.xlsx", "PK"), ("empty.csv", ""), ("broken.csv.gz", "no gzip")):
        (tmp_path / name).write_text(text)
    for arguments, remedy in (
        ((str(tmp_path / "nothing.csv"),), "Name a file"),
        ((str(tmp_path / "contacts.xlsx"),), ".csv"),
        ((str(tmp_path / "good.csv"), "--existing", "drop"), "update, fill, keep"),
        ((str(tmp_path / "good.csv"), "--default-country", "Mexico"), "ISO 3166"),
        ((str(tmp_path / "good.csv"), "--group", " "), "1 to 200"),
    ):
        refused = palomar(environment, "contacts", "import", *arguments)
        assert refused.returncode == 1, arguments
        assert remedy in refused.stderr
