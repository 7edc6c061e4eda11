# SPDX-License-Identifier: Apache-2.0
"""Quantises float files by each algorithm of ai-edge-quantizer."""

import pathlib

import numpy as np

import conversions

# Tokens that calibration feeds; of the ids of every small vocabulary here.
_CALIBRATION_TOKENS = 192
# The head's own name. GPTQ gathers second moments of outputs, too: squared,
# those of a vocabulary of 49152 would be 10 GB.
_HEAD = ".*decode_logits.*"


def _calibration_data(float_file: pathlib.Path, vocabulary: int, seed: int):
  """Inputs of every signature, on one text of random words.

  A weight's codes are worked out with the activations of the first signature
  that has it; GPTQ writes no codes at all in one that was not calibrated.
  """
  from ai_edge_litert import interpreter as runtime

  model = runtime.Interpreter(str(float_file))
  rng = np.random.default_rng(seed)
  text = rng.integers(3, vocabulary, _CALIBRATION_TOKENS)
  data = {}
  for name, length, end in (
      ("prefill_8", 8, _CALIBRATION_TOKENS),
      ("prefill_64", 64, _CALIBRATION_TOKENS),
      ("decode", 1, 16),
  ):
    details = model.get_signature_runner(name).get_input_details()
    samples = []
    runner = model.get_signature_runner(name)
    caches = {
        key: np.zeros(d["shape"], d["dtype"])
        for key, d in details.items()
        if key.startswith("kv_cache")
    }
    for begin in range(0, end, length):
      inputs = dict(caches)
      inputs["tokens"] = text[begin : begin + length].astype(np.int32)[None]
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
    algorithm: a name of ai_edge_quantizer.recipe.AlgorithmName.
    block: 0: one scale a row.
    head: by the algorithm, too.
    seed: of the text for calibration.
  """
  conversions.stub_tensorflow()
  from ai_edge_quantizer import quantizer
  from ai_edge_quantizer import recipe

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
  if made.need_calibration:
    result = made.calibrate(
        _calibration_data(float_file, vocabulary, seed), num_threads=2
    )
  out.write_bytes(bytes(made.quantize(result).quantized_model))
