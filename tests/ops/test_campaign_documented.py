"""docs/campaigns.md: the first campaign is run as it stands there, and each message leaves once."""

from pathlib import Path

from shared.settings import Settings
from tests.support import snippets
from tests.support.processes import environ
from tests.support.stage import staged

DOCS = Path(__file__).resolve().parents[2] / "docs" / "campaigns.md"


async def test_the_first_campaign_runs_as_it_is_shown(settings: Settings, tmp_path: Path) -> None:
    program = snippets.programs(DOCS.read_text())["The first one, in five minutes", "sh"]
    async with staged(settings, kind="sms") as stage, stage.working("campaign", "window", "send"):
        ran = await snippets.run("sh", program, tmp_path, environ(stage.settings))
        assert ran.code == 0, ran.printed
        assert "would get it: 2." in ran.printed
        assert "completed" in ran.printed
        assert "Wrote 2 recipients" in ran.printed
        lines = (tmp_path / "results.csv").read_text().splitlines()
        assert len(lines) == 1 + 2
        await stage.until(stage.bodies, "+34600000009", equals=["Hello there! Check out our new offers."])
        for customer, name in (("+34600000001", "Ana"), ("+34600000002", "Luis")):
            assert await stage.bodies(customer) == [f"Hello {name}! Check out our new offers."]
