"""What an operator reads in the log while PostgreSQL and RabbitMQ are away: once that they are, not once a second."""

import os
import subprocess
import sys
import time
from pathlib import Path

import orjson

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
WATCHED = 6.0  # seconds; by then each was tried some ten times


def test_an_outage_is_one_warning_and_not_a_line_each_second(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "workers", "persist", "relay", "clock"],
        env={
            **os.environ,
            "DATABASE_URL": f"postgresql://owner:geheim@127.0.0.1:{free_port()}/palomar",
            "AMQP_URL": f"amqp://guest:geheim@127.0.0.1:{free_port()}/",
            "PALOMAR_STATE_DIR": str(tmp_path),
        },
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    time.sleep(WATCHED)
    process.terminate()
    written, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = [orjson.loads(line) for line in written.splitlines()]
    outages = [line for line in lines if "away" in line["event"]]
    assert sorted((line["event"], line["level"]) for line in outages) == [
        ("broker away", "warning"),
        ("database away", "warning"),
    ]
    assert len(lines) < 10
    assert b"geheim" not in written
