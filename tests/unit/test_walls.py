"""The contracts in pyproject.toml name everything that there is: a new folder is behind a wall, or this fails."""

import tomllib
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import shared
import workers
from shared import providers

ROOT = Path(__file__).resolve().parents[2]


def contract(name: str) -> dict[str, Any]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = (one for one in contracts if one["name"] == name)
    return dict(found)


def test_every_room_of_shared_is_in_a_layer() -> None:
    layers = contract("shared is built in layers")["layers"]
    named = [room.strip() for layer in layers for room in layer.split("|")]
    assert sorted(named) == sorted(f"shared.{module.name}" for module in iter_modules(shared.__path__))


def test_no_provider_knows_another() -> None:
    named = contract("providers do not know each other")["modules"]
    assert sorted(named) == [f"shared.providers.{name}" for name in providers.names()]


def test_no_worker_imports_another() -> None:
    named = contract("workers do not import each other")["modules"]
    found = [module.name for module in iter_modules(workers.__path__) if not module.name.startswith("_")]
    assert sorted(named) == sorted(f"workers.{name}" for name in found)
