# SPDX-License-Identifier: Apache-2.0
"""What verify_tflite must say of each conversion broken on purpose, and of sound ones.

The rows are data: mutations.toml has the faults, testdata/models.json the
sound conversions.
"""

from collections.abc import Callable
import dataclasses
import importlib
import json
import pathlib
import tomllib
from typing import Any

_TABLE = pathlib.Path(__file__).with_name("mutations.toml")
_CATALOGUE = (
    pathlib.Path(__file__).resolve().parent.parent / "testdata" / "models.json"
)
_SUFFIXES = (".tflite", ".litertlm", ".task")
_SUBTLE = ("degraded", "broken")


@dataclasses.dataclass(frozen=True)
class Sound:
  """A conversion that is right, as testdata/models.json describes it."""

  file: str
  checkpoint: str
  # How matrices, the embedding and KV caches are stored: float32, float16,
  # int8, int4 or, in blocks of 32 with a scale each, int4_block32.
  weights: str
  embedding: str
  kv: str
  # Whether the weights are rotated.
  rotated: bool
  # Whether so few bits are kept, for so small a model, that the outcome may be
  # any, or that few tokens take other experts and so far away that a short run
  # decides nothing. All else must be as of the others.
  lossy: bool
  # Whether the model magnifies rounding, so that floats agree as little as
  # PyTorch does with itself.
  magnifies: bool
  # What the bundle around it has wrong; none: nothing.
  findings: tuple[str, ...]
  # The suites of the rooms that read it as well: base/testing.h.
  suites: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Mutation:
  """One fault, the file that has it and the verdict it must get."""

  file: str
  checkpoint: str
  fault: str
  # Any of these is right; the first is meant.
  outcomes: tuple[str, ...]
  # The first finding must be one of these; none of them: no finding.
  findings: tuple[str, ...]
  # How the file is made; None where an earlier test made it.
  make: Callable[..., None] | None = None
  # As Model's in make_models.py.
  inputs: dict[str, str] = dataclasses.field(default_factory=dict)
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  # Of verify_tflite.
  flags: tuple[str, ...] = ()
  # No run reaches it: nothing differs, but local verification must not pass.
  unproven: bool = False
  # What the first finding's sentence must have in it: figures.
  says: tuple[str, ...] = ()
  # Where there is no fault.
  sound: Sound | None = None


def _file(name: str) -> str:
  """The file of that name; directories of checkpoints and ranges as they are."""
  return name if name.endswith(_SUFFIXES) else f"{name}.tflite"


def _maker(name: str, module: str) -> Callable[..., None]:
  if "." in name:
    module, name = name.split(".")
  maker: Callable[..., None] = getattr(importlib.import_module(module), name)
  return maker


def _words(value: str | list[str]) -> tuple[str, ...]:
  return (value,) if isinstance(value, str) else tuple(value)


def _mutation(row: dict[str, Any], long_prompt: str) -> Mutation:
  row = dict(row)
  make = row.pop("make", None)
  inputs = dict(row.pop("inputs", {}))
  if "base" in row:
    inputs = {"base": _file(row.pop("base"))} | inputs
  options = dict(row.pop("options", {}))
  # What TOML has no word for.
  if "kinds" in options:
    options["kinds"] = tuple(options["kinds"])
  if make == "conversions.bundle":
    options = {"start_token": None} | options
  return Mutation(
      file=_file(row.pop("file")),
      checkpoint=row.pop("checkpoint", "tiny"),
      outcomes=_SUBTLE
      if row.pop("subtle", False)
      else tuple(row.pop("outcomes", ("broken",))),
      findings=_words(row.pop("findings", [])),
      make=_maker(make, "mutations") if make else None,
      inputs=inputs,
      options=options,
      flags=(f"--prompts={long_prompt}",)
      if row.pop("long_prompt", False)
      else (),
      says=tuple(row.pop("says", ())),
      # What is left must be fields: a word that is none is an error.
      **row,
  )


def _sound(entry: dict[str, Any]) -> Sound:
  entry = dict(entry)
  weights = entry.pop("weights", "float32")
  return Sound(
      weights=weights,
      embedding=entry.pop("embedding", weights),
      kv=entry.pop("kv", "float32"),
      rotated=entry.pop("rotated", False),
      lossy=entry.pop("lossy", False),
      magnifies=entry.pop("magnifies", False),
      findings=tuple(entry.pop("findings", ())),
      suites=tuple(entry.pop("suites", ())),
      **entry,
  )


def _checkpoint(
    row: dict[str, Any],
) -> tuple[Callable[..., None], dict[str, str], dict[str, Any]]:
  make = _maker(row["make"], "mutated_checkpoints")
  return make, row["inputs"], row.get("options", {})


_ROWS = tomllib.loads(_TABLE.read_text())
MUTATIONS = [
    _mutation(row, _ROWS["long_prompt"])
    for group in _ROWS["mutations"].values()
    for row in group
]
# Name -> (maker, inputs, options): the checkpoints the table needs.
CHECKPOINTS = {
    name: _checkpoint(row) for name, row in _ROWS["checkpoints"].items()
}
SOUND = [
    _sound(entry) for entry in json.loads(_CATALOGUE.read_text())["models"]
]


def needed() -> set[str]:
  """Names in models/ of all that the suite reads."""
  pairs = [(row.file, row.checkpoint) for row in MUTATIONS]
  pairs += [(sound.file, sound.checkpoint) for sound in SOUND]
  return {file.split("/")[0] for file, _ in pairs} | {c for _, c in pairs}
