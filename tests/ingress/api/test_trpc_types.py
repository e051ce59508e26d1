"""router.d.ts: the fifth document's own statements compile with it, and wrong ones do not."""

import asyncio
import re
from pathlib import Path

import pytest

from ingress.api.declaration import registry
from ingress.api.trpc.router_types import router_types
from ops.commands.trpc_types import trpc_types
from tests.support import node, trpc_ticks
from tests.support.api import ApiStage

HEAD = """\
import { createTRPCClient, httpBatchLink, TRPCClientError } from "@trpc/client";
import type { AppRouter } from "./router";

const trpc = createTRPCClient<AppRouter>({ links: [httpBatchLink({ url: "http://127.0.0.1:8081/trpc" })] });
"""
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


async def compiled(folder: Path, source: str) -> tuple[int, str]:
    """What the TypeScript compiler makes of this source beside router.d.ts: its exit code and what it says."""
    program = await asyncio.to_thread(node.ready)
    (folder / "router.d.ts").write_text(router_types(trpc_ticks.declared()))
    (folder / "main.ts").write_text(source)
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(node.FOLDER / "v11" / "node_modules")
    compiler = node.MODULES / "typescript" / "bin" / "tsc"
    process = await asyncio.create_subprocess_exec(
        program, compiler, *OPTIONS, "main.ts", cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_the_documents_statements_compile(tmp_path: Path) -> None:
    snippet = "".join(node.statements(registry()))
    assert await compiled(tmp_path, HEAD + snippet + MORE) == (0, "")


async def test_what_is_wrong_does_not_compile(tmp_path: Path) -> None:
    wrong = "".join(f"// @ts-expect-error\n{one}\n" for one in WRONG)
    assert await compiled(tmp_path, HEAD + 'const id = "";\n' + wrong) == (0, "")
    code, output = await compiled(tmp_path, HEAD + 'const id = "";\n' + "\n".join(WRONG))
    assert code
    assert len(re.findall(r"error TS", output)) >= len(WRONG)


async def test_the_api_serves_what_the_command_writes(
    api: ApiStage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "router.d.ts"
    trpc_types(file)
    assert capsys.readouterr().out == f"Wrote {file}.\n"
    answer = await api.get("/trpc/router.d.ts", None)
    assert (answer.status, answer.body) == (200, file.read_text())
    trpc_types(Path("-"))
    assert capsys.readouterr().out == answer.body
    assert (await api.request("HEAD", "/trpc/router.d.ts", None)).status == 200


async def test_every_procedure_has_its_type() -> None:
    text = router_types(registry())
    for procedure in registry().values():
        kind = procedure.kind.capitalize()
        assert re.search(rf"^      {procedure.verb}: {kind}<{procedure.input.__name__}\b", text, re.M), procedure.name
