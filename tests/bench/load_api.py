"""The load generator of the rows api and lists: python -m tests.bench.load_api URL KEY PATHS COUNT FILE --connections N

PATHS is a file with a path on each line; they are asked for in turn, or with --post JSON given that as their body. Each
connection writes the next request as soon as its last one was answered. FILE gets the result, as load.py writes it.
"""

import argparse
import gc
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import uvloop

from tests.bench.load import Load


def requests(url: str, key: str, paths: list[str], count: int, body: str | None) -> list[tuple[int, bytes]]:
    """As many requests, in bytes."""
    rest = f"HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAuthorization: Bearer {key}\r\nAccept: application/json\r\n"
    if body is not None:
        rest += f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n"
    method, rest = "GET" if body is None else "POST", f"{rest}\r\n{body or ''}"
    return [(number, f"{method} {path} {rest}".encode()) for number, path in enumerate(islice(cycle(paths), count))]


async def run(arguments: argparse.Namespace) -> Load:
    paths = arguments.paths.read_text().splitlines()
    every = requests(arguments.url, arguments.key, paths, arguments.count, arguments.post)
    gc.collect()
    gc.freeze()
    load = Load(arguments.url, every)
    await load.closed(arguments.connections)
    return load


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench.load_api", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("paths", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--post", help="the body of each request")
    arguments = parser.parse_args()
    load = uvloop.run(run(arguments))
    result = {"lost": load.lost, "sent": [[s.started, s.answered, s.status] for s in load.sent]}
    arguments.file.write_bytes(orjson.dumps(result))


if __name__ == "__main__":
    main()
