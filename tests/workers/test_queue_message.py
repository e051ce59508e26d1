"""What a tenant queues by SQL leaves as any other message does; what it records by SQL does not."""

import psycopg
import pytest
from psycopg.errors import CheckViolation

from shared.settings import Settings
from tests.support.stage import staged

RECORD = """
INSERT INTO messages (tenant_id, conversation_id, channel_id, provider, direction, role, content, status, out_seq,
    due_at)
SELECT tenant_id, id, channel_id, provider, 'outbound', 'assistant', 'compra ya', %s, next_out_seq, now()
FROM conversations
"""


async def test_what_a_function_queues_leaves_and_a_row_by_sql_does_not(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("window", "send", "clock"):
        conversation = await stage.converse()
        with psycopg.connect(settings.database_url.get_secret_value(), options="-c role=palomar_api") as tenant:
            tenant.execute("SELECT set_config('app.tenant_id', %s, true)", (str(stage.ours.tenant_id),))
            with pytest.raises(CheckViolation), tenant.transaction():
                tenant.execute(RECORD, ("queued",))
            tenant.execute(RECORD, ("failed",))
            tenant.execute("SELECT queue_message(%s, 'hola')", (conversation,))
        await stage.until(stage.bodies, equals=["hola"])
        await stage.until(stage.count, "messages WHERE due_at IS NOT NULL", equals=0)
