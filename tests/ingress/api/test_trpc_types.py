"""router.d.ts, for both versions of the client: the fifth document's statements compile with it, wrong ones do not."""

import asyncio
import re
from pathlib import Path

import pytest

from ingress.api.declaration import registry
from ingress.api.reference.snippets import subscribing
from ingress.api.trpc.router_types import SERVED, Version, router_types
from ops.commands.trpc_types import trpc_types
from ops.errors import Problem
from tests.support import node, snippets, trpc_ticks
from tests.support.api import ApiStage

DOCS = Path(__file__).resolve().parents[3] / "docs" / "api.md"
HEAD = """\
import { %(create)s, httpBatchLink, TRPCClientError } from "@trpc/client";
import type { AppRouter } from "./router";

const trpc = %(create)s<AppRouter>({ links: [httpBatchLink({ url: "http://127.0.0.1:8081/trpc" })] });
"""
CREATE: dict[Version, str] = {10: "createTRPCProxyClient", 11: "createTRPCClient"}
HEADS = {version: HEAD % {"create": create} for version, create in CREATE.items()}
versions = pytest.mark.parametrize("version", sorted(HEADS))
MORE = """\
const id: string = contact.contact.id;
const next: string | null = (await trpc.contacts.list.query()).nextCursor;
await trpc.contacts.list.query({ limit: 1, cursor: next });
await trpc.contacts.update.mutate({ id, name: null, idempotencyKey: "rename-1" });
const key: string | null = (await trpc.apiKeys.create.mutate({ name: "Web", scopes: ["*"] })).key;
trpc.ticks.plain.subscribe({ count: 1 }, { onData: (tick) => tick.number.toFixed() });
trpc.ticks.tracked.subscribe(undefined, { onData: (tick) => [tick.id.length, tick.data.number.toFixed()] });
try {
  await trpc.contacts.get.query({ id });
} catch (error) {
  if (error instanceof TRPCClientError) {
    const problem = (error as TRPCClientError<AppRouter>).data?.problem;
    console.log(problem?.errors?.[0]?.pointer, key);
  }
}
"""
WRONG = (
    "await trpc.contacts.get.query();",
    "await trpc.contacts.get.query({ id: 1 });",
    "await trpc.contacts.get.query({ id, unknownField: 1 });",
    'await trpc.contacts.get.query({ id, idempotencyKey: "get-1" });',
    "await trpc.contacts.get.mutate({ id });",
    "await trpc.pigeons.list.query();",
    "(await trpc.contacts.get.query({ id })).contact.phoneNumber.length;",
)
OPTIONS = (
    "--noEmit",
    "--strict",
    "--target",
    "es2022",
    "--lib",
    "esnext,dom",
    "--module",
    "esnext",
    "--moduleResolution",
    "bundler",
)


def shown() -> dict[str, str]:
    """What docs/api.md and the reference show of tRPC's client 11, by names of files."""
    documented = [text for text in snippets.programs(DOCS.read_text()).values() if "@trpc/" in text]
    streams = [one for one in registry().values() if one.kind == "subscription"]
    reference = [subscribing(one, one.examples[0].given)[0].text for one in streams]
    return {f"shown{number}.ts": text for number, text in enumerate((*documented, *reference))}


async def compiled(folder: Path, source: str) -> tuple[int, str]:
    """What the TypeScript compiler makes of this source beside each version's router.d.ts: exit code and output."""
    program = await asyncio.to_thread(node.ready)
    for version, head in HEADS.items():
        own = folder / f"v{version}"
        own.mkdir()
        (own / "router.d.ts").write_text(router_types(trpc_ticks.declared(), version))
        (own / "main.ts").write_text(head + source)
        (own / "node_modules").symlink_to(node.modules(own.name))
    for name, text in shown().items():
        (folder / "v11" / name).write_text("declare const process: { env: Record<string, string> };\n" + text)
    compiler = node.MODULES / "typescript" / "bin" / "tsc"
    # At once: most of the time goes into TypeScript's own library.
    files = [*(f"v{version}/main.ts" for version in HEADS), *(f"v11/{name}" for name in shown())]
    process = await asyncio.create_subprocess_exec(
        program, compiler, *OPTIONS, *files, cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_the_documents_statements_compile_with_both_versions_and_wrong_ones_do_not(tmp_path: Path) -> None:
    snippet = "".join(node.statements(registry()))
    wrong = "".join(f"// @ts-expect-error\n{one}\n" for one in WRONG)  # an error if the next line is right
    assert await compiled(tmp_path, snippet + MORE + wrong) == (0, "")


async def test_the_api_serves_what_the_command_writes(
    api: ApiStage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "router.d.ts"
    for served, version in SERVED.items():
        trpc_types(file, version)
        assert capsys.readouterr().out == f"Wrote {file}.\n"
        answer = await api.get(f"/trpc/{served}", None)
        assert (answer.status, answer.body) == (200, file.read_text())
        trpc_types(Path("-"), version)
        assert capsys.readouterr().out == answer.body
        assert (await api.request("HEAD", f"/trpc/{served}", None)).status == 200
    with pytest.raises(Problem, match="version 9"):
        trpc_types(file, 9)


@versions
def test_every_procedure_but_uploads_has_its_type(version: Version) -> None:
    text = router_types(registry(), version)
    for procedure in (one for one in registry().values() if one.kind != "upload"):
        kind = procedure.kind.capitalize()
        assert re.search(rf"^      {procedure.verb}: {kind}<{procedure.input.__name__}\b", text, re.M), procedure.name
