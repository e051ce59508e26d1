"""Writes router.d.ts: the type AppRouter, by which tRPC's client 11 and an editor know every procedure. No I/O."""

from collections.abc import Mapping
from itertools import groupby
from typing import Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from ingress.api.declaration import AnyProcedure
from ingress.api.trpc.typescript import comment, declaration, identifier, member

FILE: Final = "router.d.ts"
_Key = tuple[type[BaseModel], JsonSchemaMode]
_HEAD: Final = """\
// The procedures of this API for tRPC's client 11. `palomar trpc-types` writes this file, and GET /trpc/router.d.ts
// answers it. Do not edit it.
//
//   import { createTRPCClient, httpBatchLink } from "@trpc/client";
//   import type { AppRouter } from "./router";
//
//   const trpc = createTRPCClient<AppRouter>({
//     links: [httpBatchLink({ url: "http://127.0.0.1:8081/trpc", headers: { authorization: `Bearer ${key}` } })],
//   });
import type {
  TRPCBuiltRouter,
  TRPCDefaultErrorShape,
  TRPCMutationProcedure,
  TRPCQueryProcedure,
  TRPCSubscriptionProcedure,
} from "@trpc/server";

/** A refusal, as RFC 9457 writes it. */
export interface Problem {
  /** Where the reference explains it. */
  type: string;
  title: string;
  status: number;
  detail: string;
  /** Under which the log has the details of an unexpected error. */
  instance?: string;
  /** The fields that are wrong, each with its JSON pointer and what to change. */
  errors?: { pointer: string; detail: string; remedy: string }[];
}

/** An error, as `TRPCClientError.shape` holds it. */
export interface ErrorShape extends TRPCDefaultErrorShape {
  data: TRPCDefaultErrorShape["data"] & {
    problem: Problem;
    /** Seconds after which the call may be made again. */
    retryAfter?: number;
  };
}

type Root = { ctx: object; meta: object; errorShape: ErrorShape; transformer: false };
type Query<I, O> = TRPCQueryProcedure<{ input: I; output: O; meta: unknown }>;
/** With a key a mutation is safe to repeat: it has its effect once, and the same answer comes again. */
type Keyed<I> = I extends undefined ? I : I & { idempotencyKey?: string };
type Mutation<I, O> = TRPCMutationProcedure<{ input: Keyed<I>; output: O; meta: unknown }>;
type Subscription<I, O> = TRPCSubscriptionProcedure<{ input: I; output: AsyncIterable<O>; meta: unknown }>;

"""
_OURS: Final = ("AppRouter", "ErrorShape", "Keyed", "Mutation", "Problem", "Query", "Root", "Subscription")
_KINDS: Final = {"query": "Query", "mutation": "Mutation", "subscription": "Subscription"}


def router_types(procedures: Mapping[str, AnyProcedure]) -> str:
    """The whole file."""
    every = [procedures[name] for name in sorted(procedures)]
    models: list[_Key] = [
        *((one.input, "validation") for one in every),
        *((one.output, "serialization") for one in every),
    ]
    schemas, whole = models_json_schema(list(dict.fromkeys(models)), by_alias=True, ref_template="#/$defs/{model}")
    definitions = whole.get("$defs", {})
    taken = [*_OURS, *map(identifier, definitions)]
    assert len(set(taken)) == len(taken), "two models have one name, or one of this file's own"
    names: dict[_Key, str] = {
        (model, mode): identifier(schema["$ref"].rpartition("/")[2])
        for (model, mode), schema in schemas.items()
        if issubclass(model, BaseModel)
    }
    declared = "\n".join(declaration(name, definitions[name]) for name in sorted(definitions))
    families = groupby(every, key=lambda one: one.family)
    router = "".join(
        f"    {member(family)}: {{\n{''.join(_member(one, names) for one in of_family)}    }};\n"
        for family, of_family in families
    )
    return f"{_HEAD}{declared}\nexport type AppRouter = TRPCBuiltRouter<\n  Root,\n  {{\n{router}  }}\n>;\n"


def _member(procedure: AnyProcedure, names: Mapping[_Key, str]) -> str:
    given, answer = names[procedure.input, "validation"], names[procedure.output, "serialization"]
    if not any(field.is_required() for field in procedure.input.model_fields.values()):
        given += " | undefined"  # so that it may be called without an input
    whose = " Only an operator's key may call it." if procedure.operator else ""
    described = comment(f"{procedure.summary}{whose} Scope: {procedure.scope}.", " " * 6)
    return f"{described}      {member(procedure.verb)}: {_KINDS[procedure.kind]}<{given}, {answer}>;\n"
