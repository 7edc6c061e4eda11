# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as torch.save writes them, in the ways people save models."""

import json
import pathlib
import shutil


def _state_dict(checkpoint: pathlib.Path) -> dict:
  """The tensors of a checkpoint's safetensors files."""
  import safetensors.torch

  tensors = {}
  for path in sorted(checkpoint.glob("*.safetensors")):
    tensors |= safetensors.torch.load_file(path)
  return tensors


def saved(out: pathlib.Path, checkpoint: pathlib.Path) -> None:
  """One set of weights, saved in many ways; every file holds the same numbers.

  The directory itself has pytorch_model.bin; `sharded` has shards. All other
  files are given by name.
  """
  import torch

  state = _state_dict(checkpoint)
  assert "lm_head.weight" in state, "an untied checkpoint expected"
  shutil.copyfile(checkpoint / "config.json", out / "config.json")

  # As model.state_dict() does: an OrderedDict with attributes of its own.
  module = torch.nn.Module()
  for name, tensor in state.items():
    parent = module
    *parts, last = name.split(".")
    for part in parts:
      if not hasattr(parent, part):
        parent.add_module(part, torch.nn.Module())
      parent = getattr(parent, part)
    parent.register_parameter(
        last, torch.nn.Parameter(tensor, requires_grad=False)
    )
  ordered = module.state_dict()
  assert ordered._metadata is not None and set(ordered) == set(state)
  torch.save(ordered, out / "pytorch_model.bin")

  def prefixed(prefix):
    return {prefix + name: tensor for name, tensor in state.items()}

  training = {"epoch": 3, "loss": 0.5, "optimizer": {"lr": 1e-3, "betas": (0.9, 0.95)}}
  torch.save({"model": state, **training}, out / "nested_model.pt")
  torch.save(
      {"model_state_dict": state, **training}, out / "nested_model_state_dict.pth"
  )
  torch.save(
      {"state_dict": prefixed("model."), "callbacks": {}, **training},
      out / "lightning.ckpt",
  )
  torch.save(prefixed("module."), out / "distributed.pth")
  torch.save(prefixed("_orig_mod."), out / "compiled.pt")
  torch.save(
      {name.removeprefix("model."): tensor for name, tensor in state.items()},
      out / "without_prefix.pt",
  )
  torch.save(
      {name: torch.nn.Parameter(tensor) for name, tensor in state.items()},
      out / "parameters.pt",
  )
  torch.save(
      {
          name: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor
          for name, tensor in state.items()
      },
      out / "transposed.pt",
  )
  flat = torch.cat([tensor.flatten() for tensor in state.values()])
  shared, begin = {}, 0
  for name, tensor in state.items():
    shared[name] = flat[begin : begin + tensor.numel()].view(tensor.shape)
    begin += tensor.numel()
  torch.save(shared, out / "shared_storage.pt")

  torch.save(state, out / "legacy.pt", _use_new_zipfile_serialization=False)
  _save_shards(out / "sharded", state)
  shutil.copyfile(checkpoint / "config.json", out / "sharded" / "config.json")


def _save_shards(out: pathlib.Path, state: dict) -> None:
  import torch

  out.mkdir()
  names = sorted(state)
  weight_map = {}
  for shard in range(3):
    file = f"pytorch_model-{shard + 1:05}-of-00003.bin"
    part = names[shard::3]
    torch.save({name: state[name] for name in part}, out / file)
    weight_map |= {name: file for name in part}
  (out / "pytorch_model.bin.index.json").write_text(
      json.dumps({"metadata": {}, "weight_map": weight_map}, indent=1)
  )


def float64(out: pathlib.Path, checkpoint: pathlib.Path) -> None:
  """The same numbers in float64 safetensors."""
  import safetensors.torch
  import torch

  state = _state_dict(checkpoint)
  safetensors.torch.save_file(
      {name: tensor.to(torch.float64) for name, tensor in state.items()},
      out / "model.safetensors",
      metadata={"format": "pt"},
  )
  shutil.copyfile(checkpoint / "config.json", out / "config.json")


def layouts(out: pathlib.Path) -> None:
  """Tensors of every dtype and many strides in one state dict."""
  import torch

  torch.manual_seed(5)
  base = torch.randn(5, 7, 6)
  tensors = {
      "dense": base,
      "scalar": torch.tensor(3.5),
      "one": torch.tensor([2.5]),
      "empty": torch.empty(0, 4),
      "empty_slice": base[5:, 1:],
      "offset": base[2:],
      "row": base[3, 2],
      "column": base[:, 3, 2],
      "every_second": base[::2, 1::3],
      "transposed": base[0].t(),
      "permuted": base.permute(2, 0, 1),
      "expanded": base[0, 0].expand(3, 6),
      "diagonal": base[0].diagonal(),
      "size_one_dims": base[:, :1, :].transpose(0, 1),
      "channels_last": torch.randn(2, 3, 4, 5).contiguous(
          memory_format=torch.channels_last
      ),
      "parameter": torch.nn.Parameter(torch.randn(4, 3)),
      "parameter_view": torch.nn.Parameter(base[1].t()),
  }
  for dtype in (torch.float64, torch.float16, torch.bfloat16):
    name = str(dtype).removeprefix("torch.")
    tensors[name] = base[1].to(dtype)
    tensors[f"{name}_view"] = base.to(dtype)[1:4, 2].t()
  for dtype in (
      torch.int64,
      torch.int32,
      torch.int16,
      torch.int8,
      torch.uint8,
      torch.bool,
      torch.uint16,
      torch.uint32,
      torch.uint64,
      torch.complex64,
      torch.float8_e4m3fn,
      torch.float8_e5m2,
  ):
    name = str(dtype).removeprefix("torch.")
    tensors[name] = torch.tensor([0.0, 1.0]).to(dtype)
  torch.save(tensors, out / "layouts.pt")
