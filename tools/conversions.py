# SPDX-License-Identifier: Apache-2.0
"""Converts checkpoints to .tflite as users of litert-torch do."""

import importlib.machinery
import json
import pathlib
import shutil
import sys
import tempfile
import types


def stub_tensorflow() -> None:
  """Stands in for TensorFlow, which is imported but not used here."""
  from ai_edge_litert import schema_py_generated

  name = ""
  for part in ("tensorflow", "lite", "python"):
    name = f"{name}.{part}".lstrip(".")
    stub = types.ModuleType(name)
    # torch asks loaded modules where they come from.
    stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
    stub.__path__ = []
    sys.modules[name] = stub
  stub.schema_py_generated = schema_py_generated


def _classic_config(checkpoint: pathlib.Path):
  """The litert_torch model configuration for a Llama-like config.json."""
  import litert_torch.generative.layers.model_config as cfg

  hf = json.loads((checkpoint / "config.json").read_text())
  rope = hf.get("rope_parameters") or {}
  norm = cfg.NormalizationConfig(
      type=cfg.NormalizationType.RMS_NORM, epsilon=hf["rms_norm_eps"]
  )
  heads = hf["num_attention_heads"]
  block = cfg.TransformerBlockConfig(
      attn_config=cfg.AttentionConfig(
          num_heads=heads,
          head_dim=hf.get("head_dim") or hf["hidden_size"] // heads,
          num_query_groups=hf.get("num_key_value_heads") or heads,
          rotary_base=rope.get("rope_theta", hf.get("rope_theta", 10000)),
          rotary_percentage=1.0,
          qkv_use_bias=hf.get("attention_bias", False),
          output_proj_use_bias=hf.get("attention_bias", False),
      ),
      ff_config=cfg.FeedForwardConfig(
          type=cfg.FeedForwardType.GATED,
          activation=cfg.ActivationConfig(cfg.ActivationType.SILU),
          intermediate_size=hf["intermediate_size"],
          use_bias=hf.get("mlp_bias", False),
      ),
      pre_attention_norm_config=norm,
      post_attention_norm_config=norm,
  )
  return cfg.ModelConfig(
      vocab_size=hf["vocab_size"],
      num_layers=hf["num_hidden_layers"],
      max_seq_len=hf["max_position_embeddings"],
      embedding_dim=hf["hidden_size"],
      block_configs=block,
      final_norm_config=norm,
      lm_head_share_weight_with_embedding=hf["tie_word_embeddings"],
  )


def _break_config(config, fault: str | None) -> None:
  """Makes the conversion wrong on purpose."""
  block = config.block_configs
  if fault == "rope":
    block.attn_config.rotary_base *= 10
  elif fault == "eps":
    # One object serves all norms.
    config.final_norm_config.epsilon = 1e-6


def _classic_model(checkpoint: pathlib.Path, mask_size: int, fault: str | None):
  from litert_torch.generative.utilities import model_builder

  config = _classic_config(checkpoint)
  _break_config(config, fault)
  names = model_builder.TENSOR_NAMES
  if not config.lm_head_share_weight_with_embedding:
    names = model_builder.TENSOR_NAMES_WITH_SEPARATE_LM_HEAD
  model = model_builder.build_decoder_only_model(
      str(checkpoint), config, names, mask_cache_size=mask_size
  )
  if fault == "layers":
    blocks = model.transformer_blocks
    blocks[1], blocks[2] = blocks[2], blocks[1]
  return model


def _rename_single_prefill(interface) -> None:
  """Older converters named the only prefill signature just `prefill`."""
  add = interface.Converter.add_signature

  def add_renamed(self, name, *args, **kwargs):
    if name.startswith("prefill"):
      name = "prefill"
    return add(self, name, *args, **kwargs)

  interface.Converter.add_signature = add_renamed


def classic(
    out: pathlib.Path,
    checkpoint: pathlib.Path,
    prefill: list[int],
    cache: int,
    example: str | None = None,
    mask: bool = False,
    transposed: bool = False,
    prefill_logits: bool = False,
    single: bool = False,
    quantize: str = "none",
    fault: str | None = None,
) -> None:
  """The re-authored model of litert_torch.generative, converted.

  Args:
    example: use the authors' own model definition of this name instead of one
      made from config.json.
    fault: what to get wrong, for tests that must notice.
  """
  stub_tensorflow()
  from litert_torch._convert import interface
  from litert_torch.generative.layers import kv_cache
  from litert_torch.generative.utilities import converter

  mask_size = 0 if mask else cache
  if example == "smollm2":
    from litert_torch.generative.examples.smollm import smollm

    model = smollm.build_model_v2(str(checkpoint), None, mask_size)
  else:
    model = _classic_model(checkpoint, mask_size, fault)
  if single:
    _rename_single_prefill(interface)
  export = converter.ExportConfig(
      output_logits_on_prefill=prefill_logits, mask_as_input=mask
  )
  if transposed:
    export.kvcache_layout = kv_cache.KV_LAYOUT_TRANSPOSED
  with tempfile.TemporaryDirectory(dir=out.parent) as work:
    made = converter.convert_to_tflite(
        model,
        work,
        "model",
        prefill,
        cache,
        quantize=quantize,
        export_config=export,
    )
    pathlib.Path(made).rename(out)


def quantize(
    out: pathlib.Path,
    checkpoint: pathlib.Path,
    float_file: pathlib.Path,
    recipe: str,
) -> None:
  """Quantises a float conversion by the converter's own last step.

  The converter makes the float file first whatever the recipe; starting from
  the finished float file spares doing that again for each.
  """
  stub_tensorflow()
  from litert_torch.generative.utilities import converter
  from litert_torch.quantize import translate_recipe

  config = converter.get_quant_recipe_from_flag(
      recipe, _classic_config(checkpoint)
  )
  translated = translate_recipe.translate_to_ai_edge_recipe(
      config.generative_recipe
  )
  out.write_bytes(
      translate_recipe.quantize_model(float_file.read_bytes(), translated)
  )


def export_hf(
    out: pathlib.Path,
    checkpoint: pathlib.Path,
    prefill: list[int],
    cache: int,
    bundle: bool = False,
) -> None:
  """The newer converter, which traces the transformers model itself.

  Args:
    bundle: the .litertlm that the converter writes by default.
  """
  stub_tensorflow()
  from litert_torch.generative.export_hf import export

  # By the whole name: x.tflite and x.litertlm may be made at the same time.
  work = out.with_name(out.name + ".work")
  export.export(
      str(checkpoint),
      str(work),
      prefill_lengths=prefill,
      cache_length=cache,
      quantization_recipe="none",
      bundle_litert_lm=bundle,
  )
  # Without a bundle the model stays in a directory with a random name.
  next(work.rglob(f"*{out.suffix}")).rename(out)
  shutil.rmtree(work)


def export_family(
    out: pathlib.Path,
    checkpoint: pathlib.Path,
    tokenizer: pathlib.Path,
    prefill: list[int],
    cache: int,
) -> None:
  """export_hf of a checkpoint without a tokenizer, which it asks for."""
  with tempfile.TemporaryDirectory(dir=out.parent) as directory:
    whole = pathlib.Path(directory) / "checkpoint"
    shutil.copytree(checkpoint, whole)
    for path in tokenizer.glob("*token*"):
      shutil.copy(path, whole)
    export_hf(out, whole, prefill, cache)


def _example_config(example: str, hf: dict):
  """The authors' model configuration of an example, with the sizes of `hf`."""
  import functools
  import math

  from litert_torch.generative.examples.falcon import falcon
  from litert_torch.generative.examples.openelm import openelm
  from litert_torch.generative.examples.phi import phi3
  from litert_torch.generative.examples.phi import phi4
  import torch

  module, model = {
      "falcon": (falcon, falcon.Falcon),
      "openelm": (openelm, openelm.OpenELM),
      "phi3": (phi3, phi3.Phi3_5Mini),
      "phi4": (phi4, phi4.Phi4Mini),
  }[example]
  config = module.get_model_config()
  config.vocab_size = hf["vocab_size"]
  config.embedding_dim = hf.get("hidden_size") or hf["model_dim"]
  config.num_layers = (
      hf.get("num_hidden_layers") or hf["num_transformer_layers"]
  )
  if example == "openelm":
    from checkpoints import openelm_width

    config.block_configs = config.block_configs[: config.num_layers]
    for i, block in enumerate(config.block_configs):
      block.attn_config.head_dim = hf["head_dim"]
      block.attn_config.num_heads = hf["num_query_heads"][i]
      block.attn_config.num_query_groups = hf["num_kv_heads"][i]
      block.ff_config.intermediate_size = openelm_width(hf, i)
    return module, model, config
  block = config.block_config(0)
  config.block_configs = block
  heads = hf["num_attention_heads"]
  attention = block.attn_config
  attention.num_heads = heads
  attention.head_dim = hf["hidden_size"] // heads
  attention.num_query_groups = hf.get("num_key_value_heads") or heads
  block.ff_config.intermediate_size = (
      hf.get("intermediate_size") or hf["ffn_hidden_size"]
  )
  if example in ("phi3", "phi4"):
    rope = hf["rope_parameters"]
    config.build_rope = functools.partial(
        config.build_rope.func,
        **config.build_rope.keywords
        | dict(
            theta_factors=torch.tensor(rope["short_factor"]),
            scale=math.sqrt(
                1
                + math.log(
                    hf["max_position_embeddings"]
                    / hf["original_max_position_embeddings"]
                )
                / math.log(hf["original_max_position_embeddings"])
            ),
        ),
    )
  return module, model, config


def _load_with_head(checkpoint: str):
  """Weights, with the tied head that published files of Falcon have, too."""
  from litert_torch.generative.utilities import loader

  state = loader.load_safetensors(checkpoint)
  embedding = state.get("transformer.word_embeddings.weight")
  if embedding is not None:
    state.setdefault("lm_head.weight", embedding)
  return state


def classic_example(
    out: pathlib.Path,
    checkpoint: pathlib.Path,
    example: str,
    prefill: list[int],
    cache: int,
) -> None:
  """An example of litert_torch.generative with the sizes of a checkpoint."""
  stub_tensorflow()
  from litert_torch.generative.utilities import converter
  from litert_torch.generative.utilities import export_config
  from litert_torch.generative.utilities import model_builder

  hf = json.loads((checkpoint / "config.json").read_text())
  module, model_class, config = _example_config(example, hf)
  model = model_builder.build_decoder_only_model(
      checkpoint_path=str(checkpoint),
      config=config,
      tensor_names=module.TENSOR_NAMES,
      model_class=model_class,
      custom_loader=_load_with_head,
      mask_cache_size=cache,
  )
  with tempfile.TemporaryDirectory(dir=out.parent) as work:
    made = converter.convert_to_tflite(
        model,
        work,
        "model",
        prefill,
        cache,
        quantize="none",
        export_config=export_config.ExportConfig(),
    )
    pathlib.Path(made).rename(out)


def linear(out: pathlib.Path) -> None:
  """A model that is no language model: one linear layer."""
  import litert_torch
  import torch

  layer = torch.nn.Linear(8, 4).eval()
  litert_torch.convert(layer, (torch.zeros(1, 8),)).export(str(out))
def export_hf_with(
    out: pathlib.Path, checkpoint: pathlib.Path, **options
) -> None:
  """export_hf with any of its options; float unless they name a recipe.

  A conversion that makes several files goes to a directory with all of them,
  under the names that the converter gives them.
  """
  stub_tensorflow()
  from litert_torch.generative.export_hf import export

  several = out.is_dir()
  work = out.with_name(out.name + ".work")
  options = dict(quantization_recipe="none") | options
  export.export(
      str(checkpoint), str(work), bundle_litert_lm=False, **options
  )
  made = sorted(work.rglob("*.tflite"))
  if several:
    for path in made:
      path.rename(out / path.name)
  else:
    # A quantised file lies beside the float one it was made from.
    made[-1].rename(out)
  shutil.rmtree(work)


def classic_with(
    out: pathlib.Path,
    checkpoint: pathlib.Path,
    prefill: list[int],
    cache: int,
    decode_batch: int = 1,
    lora_ranks: list[int] | None = None,
    test_prefill: list[int] | None = None,
) -> None:
  """The classic converter's further kinds of signatures.

  Args:
    test_prefill: lengths of a second set of signatures, named `test_…`, as made
      for the verification of a GPU's dynamic shapes.
  """
  stub_tensorflow()
  from litert_torch.generative.utilities import converter

  extra = {}
  if test_prefill:
    extra = dict(
        extra_model=_classic_model(checkpoint, cache, None),
        extra_prefill_seq_lens=test_prefill,
        extra_kv_cache_max_len=cache,
        extra_signature_prefix="test_",
    )
  with tempfile.TemporaryDirectory(dir=out.parent) as work:
    made = converter.convert_to_tflite(
        _classic_model(checkpoint, cache, None),
        work,
        "model",
        prefill,
        cache,
        quantize="none",
        lora_ranks=lora_ranks,
        export_config=converter.ExportConfig(decode_batch_size=decode_batch),
        **extra,
    )
    pathlib.Path(made).rename(out)


def quantize_hf(
    out: pathlib.Path, float_file: pathlib.Path, recipe: str
) -> None:
  """Quantises a float file by export_hf's own last step."""
  stub_tensorflow()
  from litert_torch.generative.export_hf.core import export_lib

  work = out.with_name(out.name + ".work")
  work.mkdir()
  copy = work / "model.tflite"
  shutil.copyfile(float_file, copy)
  pathlib.Path(export_lib.quantize_model(str(copy), recipe)).rename(out)
  shutil.rmtree(work)


def cast_kv_caches(
    out: pathlib.Path, float_file: pathlib.Path, kind: str
) -> None:
  """Gives a float model KV caches of another type, converted on the way.

  The converter has an option for float16 caches, whose files the CPU runtime
  refuses, and makes int8 ones for NPUs only: this is how such caches can be
  had where they run.
  """
  import flatbuffers
  from ai_edge_litert import schema_py_generated as schema

  model = schema.ModelT.InitFromPackedBuf(float_file.read_bytes(), 0)
  types = schema.TensorType
  ops = schema.BuiltinOperator
  to_type = {"float16": types.FLOAT16, "int8": types.INT8}[kind]
  cast_in, cast_out = {
      "float16": (ops.CAST, ops.CAST),
      "int8": (ops.DEQUANTIZE, ops.QUANTIZE),
  }[kind]

  def operator(builtin: int, source: int, target: int):
    code = schema.OperatorCodeT()
    code.builtinCode = builtin
    code.deprecatedBuiltinCode = builtin
    code.version = 2 if builtin == ops.DEQUANTIZE else 1
    model.operatorCodes.append(code)
    made = schema.OperatorT()
    made.opcodeIndex = len(model.operatorCodes) - 1
    made.inputs, made.outputs = [source], [target]
    return made

  def of_new_type(graph, index: int) -> int:
    old = graph.tensors[index]
    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.buffer = old.shape, to_type, 0
    tensor.name = old.name + b"_stored"
    if kind == "int8":
      tensor.quantization = schema.QuantizationParametersT()
      tensor.quantization.scale = [0.05]
      tensor.quantization.zeroPoint = [0]
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1

  for signature in model.signatureDefs:
    graph = model.subgraphs[signature.subgraphIndex]
    graph.inputs, graph.outputs = list(graph.inputs), list(graph.outputs)
    for tensors, ends in (
        (signature.inputs, graph.inputs),
        (signature.outputs, graph.outputs),
    ):
      for mapped in tensors:
        if not mapped.name.startswith(b"kv_cache"):
          continue
        old = mapped.tensorIndex
        new = of_new_type(graph, old)
        mapped.tensorIndex = new
        ends[ends.index(old)] = new
        if tensors is signature.inputs:
          graph.operators.insert(0, operator(cast_in, new, old))
        else:
          graph.operators.append(operator(cast_out, old, new))
  builder = flatbuffers.Builder(1 << 24)
  builder.Finish(model.Pack(builder), b"TFL3")
  out.write_bytes(builder.Output())


def bundle(
    out: pathlib.Path,
    tflite: pathlib.Path,
    checkpoint: pathlib.Path,
    start_token: int | str | None,
    stop_tokens: list[int | str],
    template: str | None = None,
    affixes: dict[str, tuple[str, str]] | None = None,
    tokenizer: pathlib.Path | None = None,
    pad_token: int | str | None = None,
    model_type: str = "generic_model",
) -> None:
  """Packs a conversion with litert_lm_builder, with metadata as given.

  Args:
    template: Jinja source; the checkpoint's own if neither it nor `affixes` is
      given.
    affixes: role -> prefix and suffix, instead of a Jinja template.
    tokenizer: directory of the tokenizer, if not the checkpoint's own.
    pad_token: what fills up a prefill; not said if None.
    model_type: a field of LlmModelType.
  """
  import litert_lm_builder
  from litert_lm_builder.runtime.proto import llm_metadata_pb2

  def set_token(field, token: int | str) -> None:
    if isinstance(token, int):
      field.token_ids.ids.append(token)
    else:
      field.token_str = token

  metadata = llm_metadata_pb2.LlmMetadata(max_num_tokens=256)
  if start_token is not None:
    set_token(metadata.start_token, start_token)
  for token in stop_tokens:
    set_token(metadata.stop_tokens.add(), token)
  if pad_token is not None:
    set_token(metadata.pad_token, pad_token)
  for role, (prefix, suffix) in (affixes or {}).items():
    field = getattr(metadata.prompt_templates, role)
    field.prefix, field.suffix = prefix, suffix
  if not affixes:
    own = (checkpoint / "chat_template.jinja").read_text()
    metadata.jinja_prompt_template = template or own
  getattr(metadata.llm_model_type, model_type).SetInParent()

  with tempfile.TemporaryDirectory(dir=out.parent) as work:
    proto = pathlib.Path(work) / "metadata.pb"
    proto.write_bytes(metadata.SerializeToString())
    builder = litert_lm_builder.LitertLmFileBuilder()
    builder.add_system_metadata(
        litert_lm_builder.Metadata(
            key="Authors",
            value="verify_tflite",
            dtype=litert_lm_builder.DType.STRING,
        )
    )
    builder.add_llm_metadata(str(proto))
    builder.add_hf_tokenizer(str((tokenizer or checkpoint) / "tokenizer.json"))
    builder.add_tflite_model(
        str(tflite), litert_lm_builder.TfLiteModelType.PREFILL_DECODE
    )
    with open(out, "wb") as stream:
      builder.build(stream)
