"""`palomar contacts consent` and `words`: an operator enters what a customer said, and sets a tenant's words."""

import asyncio
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from shared.settings import Settings
from tests.support.commands import palomar
from tests.support.stage import staged
from workers import window
from workers.persist import worker


async def contacts(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(palomar, {**environment, "COLUMNS": "200"}, "contacts", *arguments)


async def test_an_operators_entry_takes_effect_and_is_shown(environment: dict[str, str], settings: Settings) -> None:
    async with staged(settings, {"reply": {"engine": "none"}}) as stage:
        await worker.persist([stage.said("hola", received_at=datetime.now(UTC))], stage.context)
        conversation = await stage.value("SELECT id FROM conversations")
        # Written another way: the same person.
        out = await contacts(
            environment, "consent", "+34 600 000 001", "--out", "--kind", "whatsapp", "--reason", "called"
        )
        assert out.returncode == 0, out.stderr
        assert "opted_out" in out.stdout
        assert "called" in out.stdout
        stopped, free = await stage.requested(conversation), await stage.requested(conversation)
        await window.admit([stopped], stage.context)
        assert await stage.status(stopped.message_id) == "failed"
        assert (await contacts(environment, "consent", "+34600000001", "--in", "--kind", "whatsapp")).returncode == 0
        await window.admit([free], stage.context)
        assert await stage.status(free.message_id) == "ready"
        assert await stage.count("events WHERE name = 'consent.opted_out'") == 1
        wrong = await contacts(environment, "consent", "+34600000001", "--in")
        assert (wrong.returncode, "--kind is missing" in wrong.stderr, "sms" in wrong.stderr) == (1, True, True)


async def test_a_tenants_words_are_set_shown_and_taken_back(
    environment: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    async with staged(settings):
        file = tmp_path / "words.json"
        file.write_text('{"words": {"es": {"stop": ["a b c d e f g"]}}}')
        wrong = await contacts(environment, "words", "--set", str(file))
        assert wrong.returncode == 1
        assert "words.es.stop.0" in wrong.stderr
        file.write_text('{"words": {"es": {"stop": ["Basta"], "stop_marketing": ["Sin más ofertas"]}}}')
        result = await contacts(environment, "words", "--set", str(file))
        assert "basta" in result.stdout
        assert "opted_out of marketing: aktionen stoppen" in result.stdout
        assert "sin mas ofertas" in result.stdout
        assert "baja" not in result.stdout
        assert "baja" in (await contacts(environment, "words", "--default")).stdout
