# SPDX-License-Identifier: Apache-2.0
"""Static conversions: activations, KV caches, logits and masks as integers.

Made by ai-edge-quantizer from a float conversion that takes its mask as an
input. What the quantiser writes for LLMs is broken (docs/findings.md,
signature-output); `mended` corrects it.
"""

import pathlib

import numpy as np

# The MUL that the whole decoder has by itself: what the classic converter names
# after the model alone.
_ANGLES = r".*DecoderOnlyModel_module;\d+;?$"


def _encode(checkpoint: pathlib.Path, count: int) -> list[list[int]]:
  """Sequences of tokens to calibrate with."""
  import text_samples
  import tokenizers

  tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
  texts = [text_samples.PASSAGE, " ".join(text_samples.samples())]
  return [tokenizer.encode(text).ids[:count] for text in texts]


def _mask(shape, begin: int, rows: int, blocked: float) -> np.ndarray:
  mask = np.full(shape, blocked, np.float32)
  for row in range(rows):
    mask[..., row, : begin + row + 1] = 0
  return mask


def _feeds(
    float_file: pathlib.Path, sequences: list[list[int]], blocked: float
) -> dict[str, list[dict[str, np.ndarray]]]:
  """What goes into each signature: every text through it from end to end.

  So that each signature sees all positions: a range measured at some of them
  cuts the angles of RoPE off behind.
  """
  from ai_edge_litert import interpreter as tfl

  interpreter = tfl.Interpreter(str(float_file), num_threads=1)
  feeds = {name: [] for name in interpreter.get_signature_list()}
  for name in feeds:
    runner = interpreter.get_signature_runner(name)
    shapes = {k: d["shape"] for k, d in runner.get_input_details().items()}
    length = int(np.prod(shapes["tokens"]))
    for tokens in sequences:
      caches = {
          k: np.zeros(shape, np.float32)
          for k, shape in shapes.items()
          if k.startswith("kv_cache")
      }
      for begin in range(0, len(tokens) - length + 1, length):
        end = begin + length
        feed = dict(
            tokens=np.array(tokens[begin:end], np.int32),
            input_pos=np.arange(begin, end, dtype=np.int32),
            mask=_mask(shapes["mask"], begin, length, blocked),
            **caches,
        )
        feed["tokens"] = feed["tokens"].reshape(shapes["tokens"])
        feeds[name].append(feed)
        made = runner(**feed)
        caches = {k: made[k] for k in caches}
  return feeds


def _widest(old: dict, new: dict) -> dict:
  """True ranges: the quantiser's own are a running average."""
  result = dict(new)
  for key, choose in (("min", np.minimum), ("max", np.maximum)):
    if key in old and key in new:
      result[key] = choose(old[key], new[key])
  return result


def _cache_tensors(model) -> dict[str, set[str]]:
  """Cache -> names of the tensors that are it, in any signature."""
  found: dict[str, set[str]] = {}
  for signature in model.signatureDefs:
    graph = model.subgraphs[signature.subgraphIndex]
    for item in [*signature.inputs, *signature.outputs]:
      if not item.name.startswith(b"kv_cache"):
        continue
      name = graph.tensors[item.tensorIndex].name.decode()
      found.setdefault(item.name.decode(), set()).add(name)
  return found


def _one_range(ranges: dict, model) -> None:
  """Gives each KV cache one range, wherever it is read or written."""
  for names in _cache_tensors(model).values():
    names = [name for name in names if name in ranges]
    low = np.min([ranges[n]["min"].min() for n in names])
    high = np.max([ranges[n]["max"].max() for n in names])
    for name in names:
      for key, value in (("min", low), ("max", high)):
        ranges[name][key] = np.full_like(ranges[name][key], value)


def _quantizer(float_file: pathlib.Path, bits: int, float_angles: bool):
  import conversions

  conversions.stub_tensorflow()
  from ai_edge_quantizer import algorithm_manager
  from ai_edge_quantizer import qtyping
  from ai_edge_quantizer import quantizer
  from ai_edge_quantizer import recipe

  recipes = {8: recipe.static_wi8_ai8, 16: recipe.static_wi8_ai16}
  tool = quantizer.Quantizer(str(float_file), recipes[bits]())
  if float_angles:
    tool.update_quantization_recipe(
        regex=_ANGLES,
        operation_name=qtyping.TFLOperationName.MUL,
        algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE,
    )
  return tool


def measure_ranges(
    out: pathlib.Path,
    float_file: pathlib.Path,
    checkpoint: pathlib.Path,
    blocked: float = -100.0,
    tokens: int = 256,
) -> None:
  """Calibrates: the range of every tensor, a minute for a small model.

  Args:
    blocked: what is added to the score of a masked position. Values beyond 3e38
      are left out of the ranges by the quantiser.
    tokens: of each calibration text; not more than the cache holds.
  """
  tool = _quantizer(float_file, 8, False)
  from ai_edge_quantizer import calibrator

  calibration = calibrator.Calibrator(
      float_file.read_bytes(), num_threads=1, qsv_update_func=_widest
  )
  calibration.calibrate(
      _feeds(float_file, _encode(checkpoint, tokens), blocked),
      tool._recipe_manager,
  )
  ranges = calibration.get_model_qsvs()
  arrays = {"names": np.array(sorted(ranges))}
  for i, name in enumerate(arrays["names"]):
    for key, value in ranges[name].items():
      arrays[f"{i}.{key}"] = np.asarray(value)
  np.savez(out / "ranges.npz", **arrays)


def _read_ranges(path: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
  arrays = np.load(path / "ranges.npz")
  ranges: dict[str, dict[str, np.ndarray]] = {
      str(name): {} for name in arrays["names"]
  }
  for key in arrays.files:
    if key != "names":
      place, what = key.split(".", 1)
      ranges[str(arrays["names"][int(place)])][what] = arrays[key]
  return ranges


def quantize(
    out: pathlib.Path,
    float_file: pathlib.Path,
    measured: pathlib.Path,
    bits: int,
    mended: bool = True,
    one_range: bool = True,
    narrow: float = 1.0,
    float_angles: bool = True,
) -> None:
  """A static conversion with int8 weights.

  Args:
    measured: by measure_ranges.
    bits: of activations, 8 or 16.
    mended: signatures name the tensors that their graphs give. The quantiser's
      own do not.
    one_range: each KV cache has one scale, whoever reads or writes it. The
      quantiser measures every end of it alone.
    narrow: factor of the ranges of all inner tensors; below 1 they do not cover
      what the calibration had.
    float_angles: the product of positions and frequencies of RoPE stays float.
      In 8 bits an angle is off by half a radian.
  """
  import mutations

  tool = _quantizer(float_file, bits, float_angles)
  ranges = _read_ranges(measured)
  if one_range:
    _one_range(ranges, mutations.Conversion(float_file).model)
  if narrow != 1:
    for entry in ranges.values():
      entry["min"], entry["max"] = entry["min"] * narrow, entry["max"] * narrow
  out.write_bytes(bytes(tool.quantize(ranges).quantized_model))
  if mended:
    mend_signatures(out, out)


def mend_signatures(out: pathlib.Path, source: pathlib.Path) -> None:
  """Makes the tensors that signatures name the outputs of their graphs."""
  import mutations

  conversion = mutations.Conversion(source)
  for signature in conversion.model.signatureDefs:
    graph = conversion.model.subgraphs[signature.subgraphIndex]
    outputs = [int(index) for index in graph.outputs]
    for item in signature.outputs:
      named = int(item.tensorIndex)
      if named in outputs:
        continue
      (place,) = [
          i
          for i, index in enumerate(outputs)
          if named in list(conversion.producer(graph, index).inputs)
      ]
      outputs[place] = named
    graph.outputs = outputs
  conversion.repack = True
  conversion.save(out)
