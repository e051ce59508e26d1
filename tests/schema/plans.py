"""What a prepared statement reads: its generic plan, carried out once and undone, row by row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tests.schema.backlog import Busy
from tests.schema.people import Connection
from tests.schema.statements import Statement

Node = Mapping[str, Any]
MANY = 20  # rows that a statement for many is asked for at once


@dataclass(frozen=True)
class Reads:
    """What came of one run: rows that were read and not wanted, and the plan."""

    statement: str
    unwanted: int
    plan: str


@dataclass
class Prepared:
    """Statements of one session, planned when they were prepared, without their arguments."""

    session: Connection
    names: dict[str, str] = field(default_factory=dict)

    def prepare(self, statement: Statement) -> None:
        name = f"s{len(self.names)}"
        self.session.execute("SET plan_cache_mode = force_generic_plan")
        self.session.execute(f"PREPARE {name} AS {statement.sql}".encode())
        self.names[statement.name] = name

    def types(self, statement: Statement) -> list[str]:
        row = self.session.execute(
            "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = %s", (self.names[statement.name],)
        ).fetchone()
        assert row is not None
        return list(row[0])

    def plan(self, statement: Statement, arguments: list[str]) -> None:
        """Have it planned now; the plan stays for as long as no statistics come."""
        self._explain(statement, arguments, "COSTS OFF")

    def run(self, statement: Statement, arguments: list[str]) -> Reads:
        """Carry it out and undo it."""
        plan = self._explain(statement, arguments, "ANALYZE, TIMING OFF, COSTS OFF")[0]["Plan"]
        unwanted = sum(_discarded(node) + _cut_off(node) for node in _nodes(plan))
        return Reads(statement.name, unwanted, "\n".join(_lines(plan)))

    def _explain(self, statement: Statement, arguments: list[str], options: str) -> Any:
        call = f"EXECUTE {self.names[statement.name]}" + (f"({', '.join(arguments)})" if arguments else "")
        with self.session.transaction(force_rollback=True):
            row = self.session.execute(f"EXPLAIN ({options}, FORMAT JSON) {call}".encode()).fetchone()
        assert row is not None
        return row[0]


def _nodes(plan: Node) -> Iterator[Node]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


_REMOVED = ("Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck")


def _discarded(node: Node) -> int:
    return int(sum(node.get(name, 0) for name in _REMOVED) * node["Actual Loops"])


def _cut_off(node: Node) -> int:
    """Rows that were sorted, and of which a LIMIT above let only some through."""
    if node["Node Type"] != "Limit":
        return 0
    below = node["Plans"][0]
    while below["Node Type"] in ("LockRows", "Result", "Subquery Scan", "Unique"):
        below = below["Plans"][0]
    if below["Node Type"] not in ("Sort", "Incremental Sort"):
        return 0
    sorted_rows = below["Plans"][0]["Actual Rows"] * below["Plans"][0]["Actual Loops"]
    return max(0, int(sorted_rows - node["Actual Rows"] * node["Actual Loops"]))


def _lines(plan: Node, depth: int = 0) -> Iterator[str]:
    where = " ".join(str(plan[key]) for key in ("Node Type", "Index Name", "Relation Name", "Alias") if key in plan)
    what = {key: plan[key] for key in ("Index Cond", "Filter", "Join Filter", "Recheck Cond") if key in plan}
    rows = f"{plan['Actual Rows']:g} rows x {plan['Actual Loops']:g}, {_discarded(plan)} removed"
    yield f"{'  ' * depth}{where}: {rows} {what or ''}"
    for child in plan.get("Plans", ()):
        yield from _lines(child, depth + 1)


# -- the arguments -----------------------------------------------------------------------------------------------------

_KIND_OF_ROW = {
    "contacts": "contact", "conversations": "conversation", "messages": "ready", "sessions": "session",
    "message_statuses": "receipt", "consents": "consent", "media": "wanted", "groups": "group",
    "campaigns": "campaign", "campaign_recipients": "addressee", "contact_imports": "import",
    "webhooks": "webhook", "webhook_logs": "delivery", "webhook_replays": "replay",
}  # fmt: skip
_MADE = {
    "contact_id": "contact", "conversation_id": "conversation", "message_id": "received", "group_id": "group",
    "campaign_id": "campaign", "our_id": "received", "import_id": "import",
    "webhook_id": "webhook",
}  # fmt: skip
_TEXTS = {
    "provider": "'twilio'", "lane": "'normal'", "status": "'ready'", "kind": "'phone'", "state": "'opted_in'",
    "channel_kind": "'whatsapp'", "source": "'message'", "scope": "'all'", "role": "'assistant'", "content": "'answer'",
    "canonical": "'+34' || 600000000 + {n}", "address": "'+34' || 600000000 + {n}",
    "phone": "'+34' || 600000000 + {n}", "phone_number": "'+34' || 600000000 + {n}",
    "given": "'+34' || 600000000 + {n}", "recipient": "'+34' || 600000000 + {n}", "kommo_chat_id": "'chat' || {n}",
    "external_id": "'sent' || {n}", "dedupe_key": "'ready:' || {n}", "system": "'kommo'",
    "source_table": "'kommo_messages'", "source_id": "'{n}'", "media": "'[]'", "reason": "'gone'",
    "outcome": "'parsed'", "window_policy": "'hold'", "message_type": "'text'",
    "template": "NULL", "sent_as": "NULL", "url": "'https://a.example'", "held": "'missed'", "replay_kind": "'replay'",
}  # fmt: skip
# What its meaning does not say: a value that the row has to be given anew, a row that a function is asked about.
_OF_ITS_OWN = {
    ("campaigns.records._INSERT", 4): "NULL",
    ("campaigns.records._INSERT", 7): "'contacts'",
    ("campaigns.records._PAGE", 2): "'draft'",
    ("campaigns.records._UPDATE", 4): "NULL",
    ("campaigns.records._UPDATE", 7): "'contacts'",
    ("campaigns.answers._ENTER", 3): "'replied'",
    ("campaigns.life._MOVE", 4): "'paused'",
    ("campaigns.pages._LEAVE_OUT", 3): "'skipped'",
    ("campaigns.pages._LEAVE_OUT_PENDING", 3): "'canceled'",
    ("channels._ADD", 5): "'sms'",
    ("contact_imports._INSERT", 5): "'csv'",
    ("contact_imports._INSERT", 6): "'MX'",
    ("contact_imports._INSERT", 7): "'update'",
    ("conversation_records._SET_STATUS", 3): "'closed'",
    ("channel_records._INSERT", 5): "'sms'",
    ("media._INSERT", 4): "{n} + 1",
    ("message_rates._WRITE", 2): "'sms'",
    ("message_rates._WRITE", 3): "'+34'",
    ("message_rates._WRITE", 4): "'sms'",
    ("message_rates._WRITE", 5): "current_date + {n}",
    ("message_rates._WRITE", 7): "'EUR'",
    ("message_templates._INSERT", 10): "'approved'",
    ("message_templates._INSERT_SYNCED", 10): "'approved'",
    ("message_templates._UPDATE_SYNCED", 10): "'approved'",
    ("messages.delivery_receipts._MOVE", 4): "gen_random_uuid()::text",
    ("messages.windows._CHECK", 1): "md5('{seed}conversation{n}')",
    ("tenants._INSERT", 1): "gen_random_uuid()",
    ("webhook_deliveries.matching._INSERT", 5): "'{{}}'",
    ("webhooks._INSERT", 4): "'https://a.example'",
    ("webhooks._INSERT", 8): "'inbound'",
    ("webhooks._UPDATE", 7): "'inbound'",
}
# Of a campaign to contacts, and what decides of them.
_RULES = (
    "jsonb_build_object('campaign_id', md5('{seed}campaign900')::uuid, 'channel_id', '{channel}', "
    "'channel_kind', 'whatsapp', 'address_kinds', ARRAY['phone', 'user_id'], 'us_marketing', true, "
    "'outside_us', ARRAY['416'], 'free_form', true, 'opted_in', false, 'seen_after', timestamptz '2020-01-01', "
    "'statuses', ARRAY['failed', 'pending'], 'skipped_for', ARRAY['expired'], 'final', ARRAY['21211'], "
    "'earlier', ARRAY[md5('{seed}group900')], 'used', jsonb_build_array("
    "jsonb_build_object('field', 'contact.email', 'source', 'email', 'needed', false), "
    "jsonb_build_object('field', 'contact.phone', 'source', 'phone', 'needed', true)))"
)
_CHOOSES = {"groups": "group", "contacts": "contact", "all": "contact", "campaign": "campaign"}
for _source, _kind in _CHOOSES.items():
    for _statement in ("campaigns.freezing._FREEZE", "campaigns.preview._PREVIEW"):
        _OF_ITS_OWN |= {
            (f"{_statement}[{_source}]", 2): f"md5('{{seed}}{_kind}{{n}}')",
            (f"{_statement}[{_source}]", 3): "'00000000-0000-0000-0000-000000000000'",
            (f"{_statement}[{_source}]", 5): _RULES,
        }
_BY_TYPE = {
    "text": "'{n}'", "timestamptz": "now()", "interval": "interval '1 minute'", "jsonb": "'{{}}'::jsonb",
    "json": "'{{}}'::json", "int4": "{n}", "int8": "{n}", "bool": "true", "float8": "1.0", "bytea": "sha256('{n}')",
    "uuid": "gen_random_uuid()", "name": "'nothing'",
    "boolean": "true", "integer": "{n}", "bigint": "{n}", "timestamp with time zone": "now()",
    "double precision": "1.0", "numeric": "1.0", "date": "current_date", "smallint": "1",
}  # fmt: skip


def arguments(statement: Statement, types: list[str], busy: Busy) -> list[str]:
    """SQL for each parameter: of a row that is there where it names one, of twenty where it is an array."""
    meanings = statement.meanings()
    values = []
    for place, kind in enumerate(types, start=1):
        meaning = meanings.get(place, "")
        if kind.endswith("[]"):
            parts = ", ".join(_value(statement, place, meaning, kind[:-2], busy, n) for n in range(1, MANY + 1))
            values.append(f"ARRAY[{parts}]::{kind}")
        else:
            values.append(f"({_value(statement, place, meaning, kind, busy, 1)})::{kind}")
    return values


def _value(statement: Statement, place: int, meaning: str, kind: str, busy: Busy, n: int) -> str:
    if (own := _OF_ITS_OWN.get((statement.name, place))) is not None:
        return own.format(n=n, seed=busy.seed, channel=busy.tenant.channel_id)
    if meaning == "limit":
        return str(MANY)
    if meaning == "tenant_id" or (meaning == "id" and statement.table == "tenants"):
        return f"'{busy.tenant.id}'"
    if meaning in ("channel_id", "whatsapp_instance_id") or (
        meaning == "id" and statement.table == "channels" and not statement.inserts
    ):
        return f"'{busy.tenant.channel_id}'"
    if meaning == "endpoint_id" or (meaning == "id" and statement.table == "endpoints" and not statement.inserts):
        return f"'{busy.tenant.endpoint_id}'"
    if kind == "uuid":
        made = _MADE.get(meaning)
        if meaning == "id" and not (statement.inserts):
            made = _KIND_OF_ROW.get(statement.table)
        return f"md5('{busy.seed}{made}{n}')::uuid" if made else f"'{uuid4()}'"
    if kind == "bytea" and meaning in ("id", "inbound_id"):
        return f"sha256('{busy.seed}{n}')"
    if kind == "text" and statement.inserts and meaning in ("external_id", "dedupe_key"):
        return f"'{uuid4()}'"
    if kind in ("text", "jsonb") and meaning in _TEXTS:
        return _TEXTS[meaning].format(n=n)
    return _BY_TYPE[kind].format(n=n)
