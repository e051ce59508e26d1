"""SQL that takes due rows from each tenant in turn, so that a tenant with many does not delay the others.

For tables with the columns tenant_id and due_at, and an index on both.
"""

from typing import Final

SHARE: Final = 50  # rows of one tenant that are read at once
LATER: Final = "1 minute"  # until rows that could not be handled are due again


def of_each_tenant(table: str, row: str) -> str:
    """SQL: (tenant_id, id, place) of the due rows of `table`; `row` is the column with the id. A tenant's oldest has
    place 1. The query steps from tenant to tenant by the index, and reads at most SHARE rows of each."""
    return f"""
WITH RECURSIVE tenants_waiting AS (
    (SELECT tenant_id FROM {table} ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT u.tenant_id FROM {table} u WHERE u.tenant_id > t.tenant_id ORDER BY u.tenant_id LIMIT 1)
    FROM tenants_waiting t WHERE t.tenant_id IS NOT NULL
), due AS (
    SELECT t.tenant_id, u.id, min(u.place) AS place
    FROM tenants_waiting t CROSS JOIN LATERAL (
        SELECT {row} AS id, row_number() OVER (ORDER BY due_at) AS place FROM {table}
        WHERE tenant_id = t.tenant_id AND due_at <= now() ORDER BY due_at LIMIT {SHARE}
    ) AS u
    GROUP BY t.tenant_id, u.id
)
SELECT tenant_id, id, place FROM due
"""


def try_later(table: str, row: str) -> str:
    """SQL: makes the rows of these ($1 tenants, $2 ids) due in a minute, without those that are locked."""
    return f"""
UPDATE {table} u SET due_at = now() + interval '{LATER}' WHERE (tenant_id, {row}, seq) IN (
    SELECT w.tenant_id, w.{row}, w.seq
    FROM unnest($1::uuid[], $2::uuid[]) AS of (tenant_id, id)
    JOIN {table} w ON w.tenant_id = of.tenant_id AND w.{row} = of.id
    FOR UPDATE OF w SKIP LOCKED)
"""
