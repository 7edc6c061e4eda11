# SPDX-License-Identifier: Apache-2.0
"""Quantises float files by each algorithm of ai-edge-quantizer."""

import pathlib

import numpy as np

import conversions
import mutations

# What calibration feeds: signature, tokens of a run, runs. Fewer inputs than a
# few for each column, and GPTQ does well on these alone.
_CALIBRATION = (("prefill_8", 8, 160), ("prefill_64", 64, 3), ("decode", 1, 4))
# Runs begin anew behind so many tokens: KV caches hold 256.
_CALIBRATION_TEXT = 192
# The head's own name. GPTQ gathers second moments of outputs, too: squared,
# those of a vocabulary of 49152 would be 10 GB.
_HEAD = ".*decode_logits.*"


def _calibration_data(float_file: pathlib.Path, vocabulary: int, seed: int):
  """Inputs of every signature, on random words.

  A weight's codes are worked out with the activations of the first signature
  that has it; GPTQ writes no codes at all in one that was not calibrated.
  """
  from ai_edge_litert import interpreter as runtime

  model = runtime.Interpreter(str(float_file))
  rng = np.random.default_rng(seed)
  data = {}
  for name, length, runs in _CALIBRATION:
    details = model.get_signature_runner(name).get_input_details()
    samples = []
    runner = model.get_signature_runner(name)
    for run in range(runs):
      begin = run * length % _CALIBRATION_TEXT
      if begin == 0:
        caches = {
            key: np.zeros(d["shape"], d["dtype"])
            for key, d in details.items()
            if key.startswith("kv_cache")
        }
      inputs = dict(caches)
      inputs["tokens"] = rng.integers(3, vocabulary, (1, length), np.int32)
      inputs["input_pos"] = np.arange(begin, begin + length, dtype=np.int32)
      samples.append(inputs)
      outputs = runner(**inputs)
      caches = {key: outputs[key] for key in caches}
    data[name] = samples
  return data


def quantise(
    out: pathlib.Path,
    float_file: pathlib.Path,
    algorithm: str,
    bits: int = 8,
    block: int = 0,
    head: bool = False,
    seed: int = 1,
    vocabulary: int = 49152,
) -> None:
  """Products with weights by `algorithm`, the vocabulary's by minimum and
  maximum.

  Args:
    algorithm: a name of ai_edge_quantizer.recipe.AlgorithmName. OSCAR is
      calibrated, which the quantiser itself leaves out: without, its factors
      are 1 throughout.
    block: 0: one scale a row.
    head: by the algorithm, too.
    seed: of the text for calibration.
  """
  conversions.stub_tensorflow()
  from ai_edge_quantizer import calibrator
  from ai_edge_quantizer import quantizer
  from ai_edge_quantizer import recipe
  from ai_edge_quantizer import recipe_manager

  names = recipe.AlgorithmName
  operation = recipe.TFLOperationName
  granularity = recipe.QuantGranularity
  made = quantizer.Quantizer(str(float_file))
  made.add_dynamic_config(
      ".*",
      operation.FULLY_CONNECTED,
      bits,
      granularity[f"BLOCKWISE_{block}"] if block else granularity.CHANNELWISE,
      names[algorithm],
  )
  made.add_dynamic_config(
      ".*", operation.EMBEDDING_LOOKUP, 8, granularity.CHANNELWISE
  )
  if not head:
    made.add_dynamic_config(
        _HEAD, operation.FULLY_CONNECTED, 8, granularity.CHANNELWISE
    )
  result = None
  if algorithm in ("GPTQ", "OSCAR"):
    statistics = calibrator.Calibrator(float_file.read_bytes(), num_threads=2)
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(made.get_quantization_recipe())
    statistics.calibrate(
        _calibration_data(float_file, vocabulary, seed), manager
    )
    result = statistics.get_model_qsvs()
  out.write_bytes(bytes(made.quantize(result).quantized_model))


def _matrices(conversion) -> dict[str, np.ndarray]:
  """int8 products with weights but for the head, which is not the quantiser's."""
  return {
      role: conversion.linear(role)
      for role in conversion.linear_tensors(conversion.decode)
      if role != "head"
  }


def codes(out: pathlib.Path, base: pathlib.Path, fault: str) -> None:
  """int8 numbers changed under scales that stay the checkpoint's own."""
  conversion = mutations.Conversion(base)
  rng = np.random.default_rng(21)
  matrices = _matrices(conversion)
  values = matrices["2.o"]
  if fault == "one_sign":
    row, column = np.argwhere(np.abs(values.astype(int)) > 60)[0]
    values[row, column] *= -1
  elif fault == "rows_swapped":
    values[[3, 4]] = values[[4, 3]]
  elif fault == "moved":
    # Each number a step up or down, which nothing makes up for.
    for values in matrices.values():
      moved = values.astype(int) + rng.choice((-1, 1), values.shape)
      values[:] = np.clip(moved, -127, 127)
  else:
    raise ValueError(fault)
  conversion.save(out)


def factors(out: pathlib.Path, base: pathlib.Path, fault: str) -> None:
  """Factors of a product's input, of whose inverse its columns have more."""
  conversion = mutations.Conversion(base)
  buffers = set()
  for graph in conversion.signatures():
    product = conversion.operators(graph, "FULLY_CONNECTED")[1]
    scaling = conversion.producer(graph, product.inputs[0])
    buffer = graph.tensors[scaling.inputs[1]].buffer
    values = conversion.constant(graph, scaling.inputs[1])
    if conversion.kind(scaling) != "MUL" or values is None:
      raise ValueError("the product's input is not scaled")
    if buffer in buffers:
      continue
    buffers.add(buffer)
    if fault == "lost":
      values[:] = 1
    elif fault == "one_percent":
      values[7] *= np.float32(1.01)
    else:
      raise ValueError(fault)
  conversion.save(out)


def folded_factors(
    out: pathlib.Path, base: pathlib.Path, fault: str = ""
) -> None:
  """A norm divided by factors, and its products' columns times them.

  As SmoothQuant leaves it (Xiao et al. 2022, arXiv:2211.10438), in float32.

  Args:
    fault: "norm" or "products": what does not have them.
  """
  conversion = mutations.Conversion(base)
  product = conversion.linear("1.qkv")
  norm = conversion.norms()[2]
  factor = np.exp2(
      np.random.default_rng(22).uniform(-1, 1, norm.shape)
  ).astype(np.float32)
  if fault != "norm":
    norm /= factor
  if fault != "products":
    product *= factor
  conversion.save(out)
