# SPDX-License-Identifier: Apache-2.0
"""Quantises float files by each algorithm of ai-edge-quantizer."""

import pathlib

import numpy as np

import conversions

# What calibration feeds: signature, tokens of a run, runs. Fewer inputs than a
# few for each column, and GPTQ does well on these alone.
_CALIBRATION = (("prefill_8", 8, 320), ("prefill_64", 64, 3), ("decode", 1, 4))
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
