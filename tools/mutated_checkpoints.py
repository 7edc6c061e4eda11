# SPDX-License-Identifier: Apache-2.0
"""Changed checkpoints.

A sound conversion held against a checkpoint with one setting or tensor more is
a conversion that has lost it: another way to have a conversion broken on
purpose.
"""

import json
import pathlib
import shutil
from collections.abc import Callable


def small_tokenizer(out: pathlib.Path, source: pathlib.Path, size: int) -> None:
  """Cuts a byte-level BPE tokenizer down to its first tokens."""
  tokenizer = json.loads((source / "tokenizer.json").read_text())
  model = tokenizer["model"]
  model["vocab"] = {k: v for k, v in model["vocab"].items() if v < size}

  def made(merge) -> str:
    return "".join(merge if isinstance(merge, list) else merge.split(" "))

  model["merges"] = [m for m in model["merges"] if made(m) in model["vocab"]]
  (out / "tokenizer.json").write_text(json.dumps(tokenizer))
  for name in ("tokenizer_config.json", "chat_template.jinja"):
    if (source / name).exists():
      shutil.copyfile(source / name, out / name)


def with_tokenizer(
    out: pathlib.Path, checkpoint: pathlib.Path, tokenizer: pathlib.Path
) -> None:
  """A checkpoint of 1000 tokens, with a tokenizer of as many."""
  shutil.copytree(checkpoint, out, dirs_exist_ok=True)
  small_tokenizer(out, tokenizer, 1000)


def patched_checkpoint(
    out: pathlib.Path,
    checkpoint: pathlib.Path,
    change: Callable[[dict, dict], None],
) -> None:
  """A copy of a checkpoint of one file, weights and config.json changed."""
  import safetensors.torch

  shutil.copytree(checkpoint, out, dirs_exist_ok=True)
  path = out / "model.safetensors"
  tensors = safetensors.torch.load_file(path)
  config = json.loads((out / "config.json").read_text())
  change(tensors, config)
  safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
  (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def with_config(
    out: pathlib.Path, checkpoint: pathlib.Path, changes: dict
) -> None:
  """A checkpoint with other settings, which the conversion has lost."""
  patched_checkpoint(
      out,
      checkpoint,
      lambda tensors, config: config.update(changes),
  )


def neutral(out: pathlib.Path, checkpoint: pathlib.Path) -> None:
  """Norms scale by 1, and biases are 0: converters leave such operators out."""

  def change(tensors: dict, config: dict) -> None:
    del config
    for name, tensor in tensors.items():
      if name.endswith(".bias"):
        tensor.zero_()
      elif tensor.dim() == 1:
        tensor.fill_(1)

  patched_checkpoint(out, checkpoint, change)


def on_grid(out: pathlib.Path, checkpoint: pathlib.Path, bits: int) -> None:
  """What quantisation-aware training leaves: floats on a grid, row by row."""
  import torch

  most = 2 ** (bits - 1) - 1

  def change(tensors: dict, config: dict) -> None:
    del config
    for name, tensor in tensors.items():
      if not name.endswith("_proj.weight"):
        continue
      scale = tensor.float().abs().amax(dim=1, keepdim=True) / most
      codes = torch.clamp(torch.round(tensor.float() / scale), -most, most)
      tensors[name] = (codes * scale).to(tensor.dtype)

  patched_checkpoint(out, checkpoint, change)


def with_lora(out: pathlib.Path, checkpoint: pathlib.Path, rank: int) -> None:
  """A fine-tune: a difference of low rank on q and v of every layer."""
  import torch

  generator = torch.Generator().manual_seed(11)

  def change(tensors: dict, config: dict) -> None:
    for name, old in tensors.items():
      if "q_proj" not in name and "v_proj" not in name:
        continue
      a = torch.randn(rank, old.shape[1], generator=generator)
      b = torch.randn(old.shape[0], rank, generator=generator)
      delta = b @ a
      delta *= 0.3 * old.float().norm() / delta.norm()
      tensors[name] = (old.float() + delta).to(old.dtype)

  patched_checkpoint(out, checkpoint, change)


def with_fine_tune(
    out: pathlib.Path, checkpoint: pathlib.Path, names: list[str], size: float
) -> None:
  """A fine-tune of some tensors, which the conversion does not have.

  Args:
    names: parts of names; "" is all.
    size: of the difference, relative to the tensor.
  """
  import torch

  generator = torch.Generator().manual_seed(12)

  def change(tensors: dict, config: dict) -> None:
    for name, old in tensors.items():
      if any(part in name for part in names):
        noise = torch.randn(old.shape, generator=generator)
        noise *= size * old.float().norm() / noise.norm()
        tensors[name] = (old.float() + noise).to(old.dtype)

  patched_checkpoint(out, checkpoint, change)


def with_own_head(out: pathlib.Path, checkpoint: pathlib.Path) -> None:
  """A head of its own, where the conversion uses the embedding."""
  import torch

  def change(tensors: dict, config: dict) -> None:
    table = tensors["model.embed_tokens.weight"]
    order = torch.randperm(
        table.shape[0], generator=torch.Generator().manual_seed(13)
    )
    tensors["lm_head.weight"] = table[order].contiguous()
    config["tie_word_embeddings"] = False

  patched_checkpoint(out, checkpoint, change)


def with_bos(out: pathlib.Path, checkpoint: pathlib.Path) -> None:
  """A chat template that writes BOS first."""
  shutil.copytree(checkpoint, out, dirs_exist_ok=True)
  path = out / "chat_template.jinja"
  path.write_text("{{ bos_token }}" + path.read_text())


def with_template(
    out: pathlib.Path, checkpoint: pathlib.Path, old: str, new: str
) -> None:
  """A chat template that is changed in one place."""
  shutil.copytree(checkpoint, out, dirs_exist_ok=True)
  path = out / "chat_template.jinja"
  text = path.read_text()
  if text.count(old) != 1:
    raise ValueError(f"{old!r} stands {text.count(old)} times in {path}")
  path.write_text(text.replace(old, new))


def with_fewer_merges(
    out: pathlib.Path,
    checkpoint: pathlib.Path,
    count: int,
    ignore_merges: bool = False,
) -> None:
  """A tokenizer without its last merges; the vocabulary keeps its tokens.

  Args:
    ignore_merges: a word that is a token is taken as it is, as Llama 3 does.
  """
  shutil.copytree(checkpoint, out, dirs_exist_ok=True)
  path = out / "tokenizer.json"
  tokenizer = json.loads(path.read_text())
  model = tokenizer["model"]
  model["merges"] = model["merges"][: len(model["merges"]) - count]
  model["ignore_merges"] = ignore_merges
  path.write_text(json.dumps(tokenizer))


def with_eos(out: pathlib.Path, checkpoint: pathlib.Path, eos: int) -> None:
  """Another EOS in both configurations than the tokenizer's, and no BOS."""
  shutil.copytree(checkpoint, out, dirs_exist_ok=True)
  for name, changes in (
      ("config.json", {"eos_token_id": eos, "bos_token_id": None}),
      ("generation_config.json", {"eos_token_id": eos, "bos_token_id": None}),
      ("tokenizer_config.json", {"bos_token": None}),
  ):
    path = out / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rounded(out: pathlib.Path, checkpoint: pathlib.Path, dtype: str) -> None:
  """The 16-bit copy of a float32 checkpoint."""
  import torch

  def change(tensors: dict, config: dict) -> None:
    config["dtype"] = dtype
    for name, tensor in tensors.items():
      tensors[name] = tensor.to(getattr(torch, dtype))

  patched_checkpoint(out, checkpoint, change)


def with_unused(out: pathlib.Path, checkpoint: pathlib.Path) -> None:
  """Biases and norms that config.json does not ask for."""
  import torch

  def change(tensors: dict, config: dict) -> None:
    hidden = config["hidden_size"]
    for layer in range(config["num_hidden_layers"]):
      prefix = f"model.layers.{layer}.self_attn"
      tensors[f"{prefix}.o_proj.bias"] = torch.ones(hidden)
      tensors[f"{prefix}.q_norm.weight"] = torch.full((16,), 2.0)

  patched_checkpoint(out, checkpoint, change)


def cancelling(
    out: pathlib.Path, checkpoint: pathlib.Path, ratio: float
) -> None:
  """MLPs whose sums cancel: what rounding leaves of them is not small.

  Neighbours of the inner features are the same number. One enters the output
  with weights `ratio` times as large as usual, the other with their negatives
  and what is usual.
  """
  import torch

  generator = torch.Generator().manual_seed(11)

  def change(tensors: dict, config: dict) -> None:
    for layer in range(config["num_hidden_layers"]):
      prefix = f"model.layers.{layer}.mlp"
      for name in ("gate_proj", "up_proj"):
        weight = tensors[f"{prefix}.{name}.weight"]
        weight[1::2] = weight[0::2]
      down = tensors[f"{prefix}.down_proj.weight"]
      usual = down[:, 1::2].clone()
      large = torch.randn(usual.shape, generator=generator)
      large *= ratio * usual.std()
      down[:, 0::2] = large
      down[:, 1::2] = usual - large

  patched_checkpoint(out, checkpoint, change)


def small_activations(
    out: pathlib.Path, checkpoint: pathlib.Path, layer: int
) -> None:
  """A StarCoder2 with a layer whose GELU is never far from 0."""

  def change(tensors: dict, config: dict) -> None:
    del config
    prefix = f"model.layers.{layer}.mlp.c_fc"
    tensors[f"{prefix}.weight"].mul_(0.1)
    tensors[f"{prefix}.bias"].fill_(-4)

  patched_checkpoint(out, checkpoint, change)
