#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what transformers, tokenizers and LiteRT's Python runtime compute.

The C++ tests compare with these files. Numbers lie in raw little-endian
float32 files; the .json beside them says what they are.
"""

import argparse
from collections.abc import Callable
import json
import pathlib
import re
import sys
from typing import Any

import checkpoints
import gemma3n
import lfm2
import make_models
import multimodal
import sentencepiece_models
import text_samples
import work

PROMPTS = pathlib.Path(__file__).parent.parent / "testdata" / "prompts"
# Plain matrix products and a softmax; no fused kernel.
ATTENTION = "eager"
MASKED = -1e9


def _write_json(path: pathlib.Path, value) -> None:
  path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def _write_floats(path: pathlib.Path, values) -> None:
  import numpy

  numpy.ascontiguousarray(values, dtype="<f4").tofile(path)


def _tokenizer(directory: pathlib.Path):
  import tokenizers

  return tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))


def _reference_model(directory: pathlib.Path):
  import torch
  import transformers

  return transformers.AutoModelForCausalLM.from_pretrained(
      directory, dtype=torch.float32, attn_implementation=ATTENTION
  ).eval()


def _prompts(models: pathlib.Path) -> list[tuple[str, str, list[int]]]:
  """Kind, text and token ids of the committed prompts."""
  import transformers

  directory = models / "smollm2"
  tokenizer = _tokenizer(directory)
  templates = transformers.AutoTokenizer.from_pretrained(directory)
  found = []
  for kind in ("chat", "plain"):
    for line in (PROMPTS / f"{kind}.jsonl").read_text().splitlines():
      text = json.loads(line)["prompt"]
      if kind == "chat":
        chat = [{"role": "user", "content": text}]
        rendered = templates.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer.encode(rendered, add_special_tokens=False).ids
      else:
        ids = tokenizer.encode(text).ids
      found.append((kind, text, ids))
  return found


def _passage(models: pathlib.Path, length: int) -> list[int]:
  ids = _tokenizer(models / "smollm2").encode(text_samples.PASSAGE).ids
  assert len(ids) >= length, f"the passage has only {len(ids)} tokens"
  return ids[:length]


def _write_cases(
    out: pathlib.Path,
    name: str,
    logits_of: Callable[[Any], Any],
    ids: list[int],
    lengths: list[int],
    attention: str,
    vocab: int,
) -> None:
  """Logits of each length of a text."""
  import torch

  cases = []
  for length in lengths:
    with torch.no_grad():
      logits = logits_of(torch.tensor([ids[:length]]))
    file = f"{name}_{length}.f32"
    _write_floats(out / file, logits.numpy())
    cases.append({
        "length": length,
        "token_ids": ids[:length],
        "logits_file": file,
    })
  _write_json(
      out / f"{name}.json",
      {
          "checkpoint": name,
          "attention": attention,
          "vocab_size": vocab,
          "cases": cases,
      },
  )


def reference(
    out: pathlib.Path, models: pathlib.Path, name: str, lengths: list[int]
) -> None:
  """Logits of transformers after every token of a text."""
  import torch

  model = _reference_model(models / name)
  vocab = model.config.vocab_size
  if name.startswith("ref_"):
    torch.manual_seed(7)
    ids = torch.randint(3, vocab, (max(lengths),)).tolist()
  else:
    ids = _passage(models, max(lengths))
  _write_cases(
      out, name, lambda t: model(t).logits[0], ids, lengths, ATTENTION, vocab
  )


def inner(
    out: pathlib.Path, models: pathlib.Path, names: list[str], length: int
) -> None:
  """Activations of several models; one process, for imports take longest."""
  for name in names:
    _inner(out, models, name, length)


def _inner(
    out: pathlib.Path, models: pathlib.Path, name: str, length: int
) -> None:
  """What the modules of a transformers model compute, layer by layer."""
  import torch

  model = _reference_model(models / name)
  decoder = model.model
  torch.manual_seed(7)
  ids = torch.randint(3, model.config.vocab_size, (length,)).tolist()
  tensors = []

  def keep(stage: str, layer: int, values) -> None:
    if values.dim() == 4 and values.shape[1] != length:
      values = values.transpose(1, 2)  # heads came before rows
    rows = values.detach().reshape(length, -1).numpy().copy()
    tensors.append((stage, layer, rows))

  def output(module, stage: str, layer: int) -> None:
    def hook(_, args, result):
      keep(stage, layer, result[0] if isinstance(result, tuple) else result)

    module.register_forward_hook(hook)

  def entering(module, stage: str, layer: int) -> None:
    module.register_forward_pre_hook(
        lambda _, args: keep(stage, layer, args[0])
    )

  def hook_layer(layer, index: int) -> None:
    attention = layer.self_attn
    if hasattr(layer, "input_layernorm"):
      output(layer.input_layernorm, "input_norm", index)
    else:
      entering(attention.q_proj, "input_norm", index)
    for part, stage in (("q", "query"), ("k", "key"), ("v", "value")):
      output(getattr(attention, f"{part}_proj"), f"{stage}_projection", index)
      if hasattr(attention, f"{part}_norm"):
        output(getattr(attention, f"{part}_norm"), f"{stage}_norm", index)
    last = getattr(attention, "o_proj", None) or attention.dense
    entering(last, "attention", index)
    output(last, "attention_output", index)
    norm = getattr(layer, "post_attention_layernorm", None)
    if hasattr(layer, "post_feedforward_layernorm"):
      output(norm, "attention_norm", index)
      output(layer.post_feedforward_layernorm, "output_norm", index)
      norm = getattr(layer, "pre_feedforward_layernorm", layer.mlp)
    if norm is not None:
      entering(norm, "after_attention", index)
      if norm is layer.mlp:
        entering(norm, "mlp_norm", index)
      else:
        output(norm, "mlp_norm", index)
    mlp = layer.mlp
    if hasattr(mlp, "gate_proj"):
      output(mlp.gate_proj, "gate_projection", index)
    output(getattr(mlp, "up_proj", None) or mlp.fc1, "up_projection", index)
    entering(getattr(mlp, "down_proj", None) or mlp.fc2, "mlp_inner", index)
    output(mlp, "mlp_output", index)
    output(layer, "after_mlp", index)

  entering(decoder.layers[0], "embedding", -1)
  for index, layer in enumerate(decoder.layers):
    hook_layer(layer, index)
  norm = getattr(decoder, "norm", None) or decoder.final_layernorm
  output(norm, "final_norm", -1)
  output(model.get_output_embeddings(), "head", -1)
  # Where queries and keys have been rotated.
  source = sys.modules[type(decoder.layers[0].self_attn).__module__]
  attend = source.eager_attention_forward

  def attend_and_keep(module, query, key, value, *args, **kwargs):
    keep("query", module.layer_idx, query)
    keep("key", module.layer_idx, key)
    keep("value", module.layer_idx, value)
    return attend(module, query, key, value, *args, **kwargs)

  source.eager_attention_forward = attend_and_keep
  with torch.no_grad():
    model(torch.tensor([ids]))

  file = f"{name}.f32"
  with open(out / file, "wb") as stream:
    for _, _, rows in tensors:
      rows.astype("<f4").tofile(stream)
  _write_json(
      out / f"{name}.json",
      {
          "token_ids": ids,
          "values_file": file,
          "tensors": [
              {"stage": stage, "layer": layer, "width": rows.shape[1]}
              for stage, layer, rows in tensors
          ],
      },
  )


def _transformers_logits(directory: pathlib.Path, attention: str):
  """Token ids -> logits, and the vocabulary's size."""
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_pretrained(
      directory, dtype=torch.float32, attn_implementation=attention
  ).eval()
  return lambda ids: model(ids).logits[0], model.config.vocab_size


def _litert_torch_logits(directory: pathlib.Path, example: str, size: int):
  """As above, by the authors' own definition of the model in PyTorch."""
  import conversions

  conversions.stub_tensorflow()
  import torch
  from litert_torch.generative.layers import kv_cache
  from litert_torch.generative.utilities import model_builder

  hf = json.loads((directory / "config.json").read_text())
  module, model_class, config = conversions._example_config(example, hf)
  model = model_builder.build_decoder_only_model(
      checkpoint_path=str(directory),
      config=config,
      tensor_names=module.TENSOR_NAMES,
      model_class=model_class,
      mask_cache_size=size,
  )

  def logits(ids):
    cache = kv_cache.KVCache.from_model_config(
        kv_cache_max=size, config=config
    )
    positions = torch.arange(ids.shape[1])
    return model.forward(ids, positions, cache)["logits"][0]

  return logits, hf["vocab_size"]


def further_reference(
    out: pathlib.Path,
    models: pathlib.Path,
    name: str,
    lengths: list[int],
    attention: str = ATTENTION,
    example: str | None = None,
) -> None:
  """As reference(), by another attention or by litert-torch's own model."""
  import torch

  if example:
    logits_of, vocab = _litert_torch_logits(
        models / name, example, max(lengths)
    )
  else:
    logits_of, vocab = _transformers_logits(models / name, attention)
  torch.manual_seed(7)
  ids = torch.randint(3, vocab, (max(lengths),)).tolist()
  _write_cases(out, name, logits_of, ids, lengths, attention, vocab)


def multimodal_reference(
    out: pathlib.Path, models: pathlib.Path, name: str, lengths: list[int]
) -> None:
  """Logits of text alone, by a model of images and text."""
  import torch
  import transformers

  model = transformers.AutoModelForImageTextToText.from_pretrained(
      models / name, dtype=torch.float32, attn_implementation=ATTENTION
  ).eval()
  torch.manual_seed(7)
  ids = torch.randint(
      3, min(multimodal.IMAGE_TOKENS), (max(lengths),)
  ).tolist()
  _write_cases(
      out,
      name,
      lambda t: model(input_ids=t).logits[0],
      ids,
      lengths,
      ATTENTION,
      model.config.text_config.vocab_size,
  )


def taps(
    out: pathlib.Path, models: pathlib.Path, file: str, tokens: list[int]
) -> None:
  """Every float tensor of a signature, as an interpreter that keeps all has it.

  Keeping all tensors rules XNNPACK out: these come from the plain kernels.
  """
  import numpy
  from ai_edge_litert import interpreter
  from ai_edge_litert import schema_py_generated as schema

  path = models / file
  parsed = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
  model = interpreter.Interpreter(
      str(path), experimental_preserve_all_tensors=True
  )
  prefill = model.get_signature_runner(f"prefill_{len(tokens) - 1}")
  decode = model.get_signature_runner("decode")
  caches = {
      name: numpy.zeros(detail["shape"], detail["dtype"])
      for name, detail in decode.get_input_details().items()
      if name.startswith("kv_cache")
  }
  found = []
  values = []

  def run(runner, name: str, part: list[int], begin: int) -> None:
    inputs = {
        "tokens": numpy.array([part], "int32"),
        "input_pos": numpy.arange(begin, begin + len(part), dtype="int32"),
        **caches,
    }
    if "mask" in runner.get_input_details():
      shape = runner.get_input_details()["mask"]["shape"]
      seen = numpy.arange(shape[-1]) <= inputs["input_pos"][:, None]
      # What C++ feeds, for the tensor of masked scores shows it.
      blocked = -0.7 * numpy.finfo("f4").max
      inputs["mask"] = numpy.where(seen, 0, blocked).astype("f4")[None, None]
    outputs = runner(**inputs)
    caches.update({name: outputs[name] for name in caches})
    signature = next(
        s for s in parsed.signatureDefs if s.signatureKey.decode() == name
    )
    graph = parsed.subgraphs[signature.subgraphIndex]
    ends = {int(o.tensorIndex) for o in signature.outputs}
    for order, operator in enumerate(graph.operators):
      for index in map(int, operator.outputs):
        tensor = graph.tensors[index]
        if tensor.type != schema.TensorType.FLOAT32 or index in ends:
          continue
        value = model.get_tensor(index, signature.subgraphIndex)
        values.append(numpy.ascontiguousarray(value, "<f4").reshape(-1))
        found.append({
            "signature": name,
            "index": index,
            "order": order,
            "name": tensor.name.decode(),
            "shape": [int(size) for size in value.shape],
        })

  run(prefill, f"prefill_{len(tokens) - 1}", tokens[:-1], 0)
  run(decode, "decode", tokens[-1:], len(tokens) - 1)
  stem = file.removesuffix(".tflite")
  numpy.concatenate(values).tofile(out / f"{stem}.f32")
  _write_json(
      out / f"{stem}.json",
      {"file": file, "token_ids": tokens, "tensors": found},
  )


def greedy(out: pathlib.Path, models: pathlib.Path, steps: int) -> None:
  """Greedy continuations by transformers."""
  import torch

  model = _reference_model(models / "smollm2")
  cases = []
  for kind, text, ids in _prompts(models):
    made = model.generate(
        torch.tensor([ids]), do_sample=False, max_new_tokens=steps
    )
    cases.append({
        "kind": kind,
        "prompt": text,
        "token_ids": ids,
        "new_ids": made[0, len(ids) :].tolist(),
    })
  _write_json(
      out / "smollm2_greedy.json",
      {"checkpoint": "smollm2", "max_new_tokens": steps, "cases": cases},
  )


class _Candidate:
  """A converted model run by Python's signature runners, as LiteRT-LM does it.

  The parameters are those of signature_kind.
  """

  def __init__(
      self,
      path: pathlib.Path,
      suffix: str = "",
      window: int = 0,
      padded: int | None = None,
  ):
    import numpy
    from ai_edge_litert import interpreter

    self.numpy = numpy
    self.window = window
    self.padded = padded
    self.model = interpreter.Interpreter(str(path), num_threads=2)
    self.decode = self.model.get_signature_runner(f"decode{suffix}")
    self.prefill = {}
    for name in self.model.get_signature_list():
      if re.fullmatch(rf"prefill(_\d+)?{suffix}", name):
        runner = self.model.get_signature_runner(name)
        length = runner.get_input_details()["input_pos"]["shape"][0]
        self.prefill[int(length)] = (name, runner)
    self.embedders = {}
    embedder = next(path.parent.glob("embedder*.tflite"), None)
    if embedder and path.name.startswith("model"):
      embedder = path.with_name(path.name.replace("model", "embedder"))
      self.embedder = interpreter.Interpreter(str(embedder), num_threads=2)
      for name in self.embedder.get_signature_list():
        runner = self.embedder.get_signature_runner(name)
        shape = runner.get_input_details()["token_ids"]["shape"]
        self.embedders[int(shape[1])] = runner
    self.reset()

  def reset(self) -> None:
    self.position = 0
    details = next(iter(self.prefill.values()))[1].get_input_details()
    self.caches = {
        name: self.numpy.zeros(detail["shape"], detail["dtype"])
        for name, detail in details.items()
        if name.startswith("kv_cache")
    }

  def _embed(self, tokens: list[int]):
    if len(tokens) in self.embedders:
      runner, parts = self.embedders[len(tokens)], [tokens]
    else:
      runner, parts = self.embedders[1], [[token] for token in tokens]
    made = [
        runner(token_ids=self.numpy.array([part], "int32"))["embeddings"]
        for part in parts
    ]
    return self.numpy.concatenate(made, axis=1)

  def _window_mask(self, positions, shape):
    """True where attended; a column for each slot, then for each token."""
    rows, columns = shape[-2:]
    seen = self.numpy.zeros((rows, columns), bool)
    ring = columns if rows == 1 else columns - rows
    for row, query in enumerate(positions):
      for key in range(max(0, query - self.window + 1), query + 1):
        in_chunk = rows > 1 and key >= positions[0]
        column = ring + key - positions[0] if in_chunk else key % ring
        seen[row, column] = True
    return seen

  def _run(self, runner, tokens: list[int], count: int):
    numpy = self.numpy
    details = runner.get_input_details()
    positions = numpy.arange(
        self.position, self.position + len(tokens), dtype="int32"
    )
    inputs = {"input_pos": positions}
    for name, detail in details.items():
      shape = detail["shape"]
      if name == "tokens":
        inputs[name] = numpy.array([tokens] * shape[0], "int32")
      elif name == "embeddings":
        inputs[name] = self._embed(tokens)
      elif name == "param_tensor":
        end = self.position + count
        inputs[name] = numpy.zeros(shape, "int32")
        inputs[name].flat[:3] = [self.position, end, end]
      elif name in ("mask", "local_mask"):
        if name == "mask":
          seen = numpy.arange(shape[-1])[None, :] <= positions[:, None]
        else:
          seen = self._window_mask(positions, shape)
        if numpy.dtype(detail["dtype"]) != numpy.dtype(bool):
          seen = numpy.where(seen, 0, MASKED).astype(detail["dtype"])
        inputs[name] = seen.reshape(shape)
      elif name.startswith("kv_cache"):
        # Decode may take a batch.
        cache = self.caches[name]
        if cache.shape[0] < shape[0]:
          cache = numpy.repeat(cache, shape[0], axis=0)
        inputs[name] = cache
    outputs = runner(**inputs)
    self.caches = {name: outputs[name] for name in self.caches}
    self.position += count
    return outputs.get("logits")

  def feed(self, tokens: list[int]) -> list[dict]:
    """Prefills: full chunks of the largest length, then one that fits."""
    lengths = sorted(self.prefill)
    chunks = []
    while tokens:
      fitting = [n for n in lengths if n >= len(tokens)]
      if self.padded is not None:
        full = [n for n in lengths if n <= len(tokens)]
        fitting = full[-1:] or [n for n in fitting if n <= self.padded]
        if not fitting:
          break
      length = fitting[0] if fitting else lengths[-1]
      part, tokens = tokens[:length], tokens[length:]
      name, runner = self.prefill[length]
      chunks.append({
          "signature": name,
          "begin": self.position,
          "count": len(part),
      })
      self._run(runner, part + [0] * (length - len(part)), len(part))
    for token in tokens:
      self.step(token)
    return chunks

  def step(self, token: int):
    # Of a batch, the first sequence.
    return self._run(self.decode, [token], 1)[0].reshape(-1)


def candidate(
    out: pathlib.Path, models: pathlib.Path, file: str, long: int | None
) -> None:
  """Prefill of all but the last prompt token, then greedy decoding."""
  prompts = _prompts(models)
  by_name = {
      "usual": next(ids for kind, _, ids in prompts if kind == "chat"),
      "short": next(ids for _, _, ids in prompts if 4 <= len(ids) <= 8),
      "single": next(ids for _, _, ids in prompts if len(ids) == 1),
  }
  if long:
    by_name["long"] = _passage(models, long)
  model = _Candidate(models / file)
  stem = file.removesuffix(".tflite")
  cases = []
  for name, ids in by_name.items():
    steps = 16 if name == "usual" else 8
    model.reset()
    chunks = model.feed(ids[:-1])
    token, logits, chosen = ids[-1], [], []
    for _ in range(steps):
      logits.append(model.step(token))
      token = int(logits[-1].argmax())
      chosen.append(token)
    logits_file = f"{stem}.f32" if name == "usual" else f"{stem}_{name}.f32"
    _write_floats(out / logits_file, logits)
    cases.append({
        "name": name,
        "prompt_ids": ids,
        "prefill": chunks,
        "steps": steps,
        "chosen_ids": chosen,
        "logits_file": logits_file,
    })
  _write_json(
      out / f"{stem}.json",
      {"file": file, "vocab_size": len(logits[0]), "cases": cases},
  )


def signature_kind(
    out: pathlib.Path,
    models: pathlib.Path,
    name: str,
    file: str,
    suffix: str = "",
    window: int = 0,
    padded: int | None = None,
) -> None:
  """Prefill of all but the last token of some prompts, then greedy decoding.

  Args:
    suffix: of the names of the signatures to use.
    window: positions that layers with a sliding window see.
    padded: only chunks of up to this length may have pads; what fills no chunk
      goes through decode.
  """
  import numpy

  model = _Candidate(models / file, suffix, window, padded)
  cases = []
  for case, length in (("short", 7), ("usual", 44), ("long", 151)):
    ids = numpy.random.default_rng(length).integers(3, 1000, length).tolist()
    steps = 8
    model.reset()
    chunks = model.feed(ids[:-1])
    token, logits, chosen = ids[-1], [], []
    for _ in range(steps):
      logits.append(model.step(token))
      token = int(logits[-1].argmax())
      chosen.append(token)
    logits_file = f"{name}_{case}.f32"
    _write_floats(out / logits_file, logits)
    cases.append({
        "name": case,
        "prompt_ids": ids,
        "prefill": chunks,
        "steps": steps,
        "chosen_ids": chosen,
        "logits_file": logits_file,
    })
  _write_json(
      out / f"{name}.json",
      {"file": file, "vocab_size": len(logits[0]), "cases": cases},
  )


def text(
    out: pathlib.Path, models: pathlib.Path, name: str, directory: str
) -> None:
  """Token ids, decoded texts and rendered chats."""
  import transformers

  tokenizer = _tokenizer(models / directory)
  samples = []
  for sample in text_samples.samples():
    ids = tokenizer.encode(sample, add_special_tokens=False).ids
    samples.append({
        "text": sample,
        "ids": ids,
        "ids_with_special": tokenizer.encode(sample).ids,
        "decoded": tokenizer.decode(ids, skip_special_tokens=False),
        "decoded_skip_special": tokenizer.decode(ids),
    })
  templates = transformers.AutoTokenizer.from_pretrained(models / directory)
  named = templates.chat_template
  if isinstance(named, str):
    named = {"default": named}
  chats = []
  for template, source in named.items():
    for messages in text_samples.chats():
      rendered = templates.apply_chat_template(
          messages,
          chat_template=source,
          tokenize=False,
          add_generation_prompt=True,
      )
      chats.append({
          "template": template,
          "messages": messages,
          "rendered": rendered,
          "ids": tokenizer.encode(rendered, add_special_tokens=False).ids,
      })
  _write_json(
      out / f"{name}.json",
      {"model": directory, "samples": samples, "chats": chats},
  )


def loaded(out: pathlib.Path, models: pathlib.Path, file: str) -> None:
  """What torch.load finds in a file: dtype, shape, dense bytes in hex."""
  import torch

  tensors = torch.load(models / file, weights_only=True)
  found = {
      name: {
          "dtype": str(tensor.dtype).removeprefix("torch."),
          "shape": list(tensor.shape),
          "dense": tensor.is_contiguous(),
          "bytes": bytes(
              tensor.detach().contiguous().view(-1).view(torch.uint8).tolist()
          ).hex(),
      }
      for name, tensor in tensors.items()
  }
  _write_json(out / f"{pathlib.Path(file).stem}.json", found)
SIGNATURE_KINDS = {
    "tiny_hf_logits": {},
    "tiny_hf_gpu": {},
    "tiny_hf_caches": dict(suffix="_cache_256"),
    "tiny_hf_embedder": dict(file="tiny_hf_embedder/model.tflite"),
    "tiny_hf_embedder_q8": dict(
        file="tiny_hf_embedder_q8/model_quantized.tflite"
    ),
    "tiny_batch": {},
    "small_lora": {},
    "tiny_kv_float16": {},
    "tiny_kv_int8": {},
    "small_ring": dict(window=24, padded=8),
}


def sentencepiece(
    out: pathlib.Path, models: pathlib.Path, directory: str
) -> None:
  """Token ids of tokenizer.model."""
  texts = text_samples.samples() + [
      "<|user|>Hi<|assistant|>",
      " <|user|> Hi <|assistant|>\n",
      "<|user|>",
      "a<|user|>▁b<s></s>  c",
  ]
  found = sentencepiece_models.samples(models / directory, texts)
  _write_json(
      out / f"{directory}.json", {"model": directory, "samples": found}
  )


# One of each kind of block: plain, sandwich norms, qk norms, Phi's, layers
# without RoPE, two RoPE bases, scaled residuals, norms of outputs alone.
INNER = (
    "tiny",
    "ref_gemma2",
    "ref_qwen3",
    "ref_phi",
    "ref_smollm3",
    "ref_gemma3",
    "ref_granite",
    "ref_olmo2",
    # Norms behind RoPE, LayerNorm in a parallel block, norms of what o and
    # down read, scaled queries.
    "ref_exaone4",
    "ref_hunyuan",
    "ref_cohere",
    "ref_bitnet",
    "ref_ministral3",
)


def gemma3n_reference(
    out: pathlib.Path, models: pathlib.Path, name: str, lengths: list[int]
) -> None:
  """As further_reference(), without the tower of images."""
  with gemma3n.without_images():
    further_reference(out, models, name, lengths)


def _recordings() -> dict[str, tuple]:
  """Name -> function, the models it reads, options."""
  found = {
      "text/smollm2": (
          text,
          ["smollm2"],
          {"name": "smollm2", "directory": "smollm2"},
      ),
      "text/llama2": (
          text,
          ["llama2_tokenizer"],
          {"name": "llama2", "directory": "llama2_tokenizer"},
      ),
  }

  def add_reference(name: str, lengths: list[int]) -> None:
    found[f"reference/{name}"] = (
        reference,
        # The text is made of SmolLM2's tokens.
        [name, "smollm2"],
        {"name": name, "lengths": lengths},
    )

  for name in (*checkpoints.REFERENCES, *checkpoints.FAMILIES):
    add_reference(name, [1, 60, 512])
  found["inner/activations"] = (
      inner,
      list(INNER),
      {"names": list(INNER), "length": 40},
  )
  # With eager attention, transformers 5.24 adds ALiBi to the scores twice: once
  # by itself and once in the mask that FalconModel makes for sdpa.
  by_other_means = {
      "ref_falcon_alibi": dict(attention="sdpa"),
      "ref_falcon_rw": dict(attention="sdpa"),
      "ref_openelm": dict(example="openelm"),
  }
  for name in (*checkpoints.FURTHER_FAMILIES, "ref_openelm"):
    found[f"reference/{name}"] = (
        further_reference,
        [name],
        dict(name=name, lengths=[1, 60, 512]) | by_other_means.get(name, {}),
    )
  for name in (*checkpoints.GEMMA4, *checkpoints.MOE, *lfm2.CHECKPOINTS):
    found[f"reference/{name}"] = (
        further_reference,
        [name],
        dict(name=name, lengths=[1, 60, 512]),
    )
  for name in multimodal.MODELS:
    found[f"reference/{name}"] = (
        multimodal_reference,
        [name],
        dict(name=name, lengths=[1, 60, 512]),
    )
  for name in gemma3n.CHECKPOINTS:
    found[f"reference/{name}"] = (
        gemma3n_reference,
        [name],
        dict(name=name, lengths=[1, 60, 512]),
    )
  add_reference("tiny", [60])
  add_reference("smollm2", [1, 60, 512])
  # Longer than the largest prefill signature.
  long = {"smollm2_q8": 301, "tiny_f32": 151, "tiny_single": 151}
  for stem in (
      "tiny_f32",
      "tiny_single",
      "tiny_mask",
      "tiny_transposed",
      "tiny_mask_transposed",
      "tiny_prefill_logits",
      "tiny_export_hf",
      "tiny_q8",
      "smollm2_f32",
      "smollm2_q8",
      "smollm2_fp16",
      "smollm2_q8_wo",
  ):
    file = f"{stem}.tflite"
    found[f"candidate/{stem}"] = (
        candidate,
        [file, "smollm2"],
        {"file": file, "long": long.get(stem)},
    )
  for stem in ("tiny_f32", "tiny_export_hf"):
    file = f"{stem}.tflite"
    found[f"taps/{stem}"] = (
        taps,
        [file],
        {"file": file, "tokens": [5, 17, 300, 42, 7, 1000, 20000, 9, 77]},
    )
  for kind in ("legacy", "plain", "squeezed"):
    name = f"llama2_model_{kind}"
    found[f"text/{name}"] = (sentencepiece, [name], {"directory": name})
  found["checkpoint/layouts"] = (
      loaded,
      ["pickle_layouts"],
      {"file": "pickle_layouts/layouts.pt"},
  )
  for name, options in SIGNATURE_KINDS.items():
    file = options.get("file", f"{name}.tflite")
    found[f"candidate/{name}"] = (
        signature_kind,
        [file.split("/")[0]],
        dict(options, name=name, file=file),
    )
  found["reference/smollm2_greedy"] = (greedy, ["smollm2"], {"steps": 24})
  return found


RECORDINGS = _recordings()


def _keys() -> dict[str, str]:
  used = {name for _, models, _ in RECORDINGS.values() for name in models}
  made_by = make_models.keys(make_models.resolve(sorted(used)))
  versions = work.versions(
      ("ai-edge-litert", "tokenizers", "torch", "transformers")
  )
  texts = [path.read_text() for path in sorted(PROMPTS.iterdir())]
  texts.append(pathlib.Path(text_samples.__file__).read_text())
  return {
      name: work.digest(
          versions,
          work.source_of(function),
          [made_by[model] for model in models],
          options,
          texts,
      )
      for name, (function, models, options) in RECORDINGS.items()
  }


def _record(target: pathlib.Path, name: str, models: pathlib.Path) -> None:
  function, _, options = RECORDINGS[name]
  target.mkdir()
  function(target, models, **options)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
  parser.add_argument(
      "--models", type=pathlib.Path, default=work.cache_dir() / "models"
  )
  parser.add_argument(
      "--out", type=pathlib.Path, default=work.cache_dir() / "expected"
  )
  parser.add_argument("--list", action="store_true", help="list the names")
  parser.add_argument("--jobs", type=int, default=work.default_jobs())
  args = parser.parse_args()
  if args.list:
    print("\n".join(RECORDINGS))
    return
  names = args.names or list(RECORDINGS)
  for name in names:
    if name not in RECORDINGS:
      sys.exit(f"record_expectations.py: no '{name}'; see --list")
  tasks = [
      work.Task(
          name, [], _record, (name, args.models), spread_to=name.split("/")[0]
      )
      for name in names
  ]
  work.run(
      "expectations",
      args.out,
      tasks,
      _keys(),
      args.jobs,
      ("torch", "transformers"),
  )


if __name__ == "__main__":
  main()
