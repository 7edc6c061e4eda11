# SPDX-License-Identifier: Apache-2.0
"""Packs conversions as .task files and as bundles of several models."""

import json
import pathlib
import shutil
import zipfile

import conversions

_LOCAL_HEADER = 30


def _varint(value: int) -> bytes:
  out = bytearray()
  while value >= 0x80:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes(out + bytes([value]))


def _field(number: int, value: bytes | str | int) -> bytes:
  """One field of a protocol buffer."""
  if isinstance(value, int):
    return _varint(number << 3) + _varint(value)
  value = value.encode() if isinstance(value, str) else value
  return _varint(number << 3 | 2) + _varint(len(value)) + value


def _prompt_template(session: str, prefix: str, suffix: str) -> bytes:
  parts = enumerate((session, prefix, suffix), 1)
  return b"".join(_field(number, text) for number, text in parts if text)


def llm_parameters(
    start_token: int | str | None,
    stop_tokens: list[int | str],
    prompt: tuple[str, str, str] | None = None,
    roles: dict[str, tuple[str, str]] | None = None,
    bytes_to_unicode: bool = False,
    max_tokens: int = 256,
) -> bytes:
  """odml.infra.proto.LlmParameters (llm_params.proto of MediaPipe).

  Args:
    prompt: session prefix, prompt prefix and suffix: the older template.
    roles: user, model, system -> prefix and suffix.
  """
  out = _field(1, _field(2, max_tokens))
  if isinstance(start_token, int):
    out += _field(4, start_token)
  for token in stop_tokens:
    if isinstance(token, str):
      out += _field(5, token)
  if isinstance(start_token, str):
    out += _field(6, start_token)
  if bytes_to_unicode:
    out += _field(7, 1)
  if prompt:
    out += _field(8, _prompt_template(*prompt))
  if roles:
    numbers = {"user": 1, "model": 2, "system": 3}
    out += _field(
        17,
        b"".join(
            _field(numbers[role], _prompt_template("", *affixes))
            for role, affixes in roles.items()
        ),
    )
  for token in stop_tokens:
    if isinstance(token, int):
      out += _field(18, token)
  return out


def write_task(path: pathlib.Path, entries: dict[str, bytes]) -> None:
  """A zip as MediaPipe's bundler writes it.

  Entries are stored, and their data aligned to 4 bytes by 1 to 4 zeros in front
  of the local header, in front of the first one as well
  (model_asset_bundle_utils.py, AlignZipFile).
  """
  with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
    for name, data in entries.items():
      data_begin = archive.fp.tell() + _LOCAL_HEADER + len(name)
      archive.fp.write(bytes(4 - data_begin % 4))
      archive.start_dir = archive.fp.tell()
      archive.writestr(zipfile.ZipInfo(name), data)


def task(
    out: pathlib.Path,
    model: pathlib.Path,
    tokenizer: pathlib.Path,
    llm_metadata: bool = False,
    **parameters,
) -> None:
  """A .task of a conversion.

  Args:
    model: the .tflite, or a directory with embedder.tflite as well.
    tokenizer: directory with tokenizer.model.
    llm_metadata: METADATA as LiteRT-LM takes it, instead of MediaPipe's.
  """
  entries = {}
  if model.is_dir():
    entries["TF_LITE_EMBEDDER"] = (model / "embedder.tflite").read_bytes()
    model = model / "model.tflite"
  entries["TF_LITE_PREFILL_DECODE"] = model.read_bytes()
  entries["TOKENIZER_MODEL"] = (tokenizer / "tokenizer.model").read_bytes()
  if llm_metadata:
    from litert_lm_builder.runtime.proto import llm_metadata_pb2

    metadata = llm_metadata_pb2.LlmMetadata(max_num_tokens=256)
    metadata.start_token.token_str = parameters["start_token"]
    for token in parameters["stop_tokens"]:
      metadata.stop_tokens.add().token_str = token
    for role, (prefix, suffix) in (parameters.get("roles") or {}).items():
      affixes = getattr(metadata.prompt_templates, role)
      affixes.prefix, affixes.suffix = prefix, suffix
    entries["METADATA"] = metadata.SerializeToString()
  else:
    entries["METADATA"] = llm_parameters(**parameters)
  write_task(out, entries)


def export_hf_bundle(
    out: pathlib.Path, checkpoint: pathlib.Path, **options
) -> None:
  """The .litertlm that export_hf writes with any of its options; float."""
  conversions.stub_tensorflow()
  from litert_torch.generative.export_hf import export

  work = out.with_name(out.name + ".work")
  export.export(
      str(checkpoint),
      str(work),
      quantization_recipe="none",
      bundle_litert_lm=True,
      **options,
  )
  next(work.rglob("*.litertlm")).rename(out)
  shutil.rmtree(work)


def litertlm(
    out: pathlib.Path,
    checkpoint: pathlib.Path,
    models: pathlib.Path,
    sentencepiece: pathlib.Path | None = None,
    stop_tokens: list[int] = (2,),
    backend: str | None = None,
) -> None:
  """A bundle of the models in a directory, without a start token.

  Args:
    models: model.tflite, embedder.tflite and per_layer_embedder.tflite, as far
      as they are there; or the .tflite alone.
    sentencepiece: directory with a tokenizer.model, instead of the checkpoint's
      tokenizer.json.
    backend: what the model's section says it needs.
  """
  import litert_lm_builder
  from litert_lm_builder.runtime.proto import llm_metadata_pb2

  metadata = llm_metadata_pb2.LlmMetadata(max_num_tokens=256)
  for token in stop_tokens:
    metadata.stop_tokens.add().token_ids.ids.append(token)
  template = checkpoint / "chat_template.jinja"
  metadata.jinja_prompt_template = template.read_text()
  metadata.llm_model_type.generic_model.SetInParent()
  proto = out.with_name(out.name + ".pb")
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
  if sentencepiece:
    builder.add_sentencepiece_tokenizer(str(sentencepiece / "tokenizer.model"))
  else:
    builder.add_hf_tokenizer(str(checkpoint / "tokenizer.json"))
  kinds = litert_lm_builder.TfLiteModelType
  files = {"model.tflite": kinds.PREFILL_DECODE}
  if models.is_dir():
    files["embedder.tflite"] = kinds.EMBEDDER
    files["per_layer_embedder.tflite"] = kinds.PER_LAYER_EMBEDDER
  for name, kind in files.items():
    path = models / name if models.is_dir() else models
    if path.exists():
      builder.add_tflite_model(str(path), kind, backend_constraint=backend)
  with open(out, "wb") as stream:
    builder.build(stream)
  proto.unlink()


def split_embedder(out: pathlib.Path, models: pathlib.Path) -> None:
  """Gives a float model a second embedder, `per_layer_embeddings`.

  The converter makes such files of Gemma 3n and 4 alone. Here a quarter of each
  embedding comes from embedder.tflite and the rest from per_layer_embedder
  .tflite, as [1, N, 2, H/2], and the model adds the two: with both fed rightly
  it computes what it did before.
  """
  import numpy as np
  from ai_edge_litert import schema_py_generated as schema

  ops, types = schema.BuiltinOperator, schema.TensorType

  def load(name):
    data = (models / name).read_bytes()
    return schema.ModelT.InitFromPackedBuf(data, 0)

  def save(name, model):
    import flatbuffers

    builder = flatbuffers.Builder(1 << 24)
    builder.Finish(model.Pack(builder), b"TFL3")
    (out / name).write_bytes(builder.Output())

  def add_tensor(graph, like, shape, name):
    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.buffer = shape, types.FLOAT32, 0
    tensor.name = name
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1

  def add_buffer(model, values):
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1

  def operator(model, builtin, inputs, output, options_type, options):
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    model.operatorCodes.append(code)
    made = schema.OperatorT()
    made.opcodeIndex = len(model.operatorCodes) - 1
    made.inputs, made.outputs = inputs, [output]
    made.builtinOptionsType, made.builtinOptions = options_type, options
    return made

  def reshape(model, graph, source, target, shape):
    constant = add_tensor(graph, None, [len(shape)], b"shape")
    graph.tensors[constant].type = types.INT32
    graph.tensors[constant].buffer = add_buffer(
        model, np.array(shape, np.int32)
    )
    options = schema.ReshapeOptionsT()
    options.newShape = shape
    return operator(
        model,
        ops.RESHAPE,
        [source, constant],
        target,
        schema.BuiltinOptions.ReshapeOptions,
        options,
    )

  def scale_table(model, factor):
    largest = max(
        (b for b in model.buffers if b.data is not None), key=lambda b: len(b.data)
    )
    table = np.frombuffer(bytes(largest.data), np.float32) * np.float32(factor)
    largest.data = np.frombuffer(table.tobytes(), np.uint8)

  embedder = load("embedder.tflite")
  scale_table(embedder, 0.25)
  save("embedder.tflite", embedder)

  per_layer = load("embedder.tflite")
  scale_table(per_layer, 0.75)
  for signature in per_layer.signatureDefs:
    graph = per_layer.subgraphs[signature.subgraphIndex]
    made = signature.outputs[0].tensorIndex
    one, length, width = graph.tensors[made].shape
    shape = [int(one), int(length), 2, int(width) // 2]
    split = add_tensor(graph, made, shape, b"split")
    graph.operators.append(reshape(per_layer, graph, made, split, shape))
    signature.outputs[0].tensorIndex = split
    graph.outputs = [split]
    signature.signatureKey = signature.signatureKey.replace(
        b"embedder", b"per_layer_embedder"
    )
  save("per_layer_embedder.tflite", per_layer)

  model = load("model.tflite")
  for signature in model.signatureDefs:
    graph = model.subgraphs[signature.subgraphIndex]
    mapped = next(m for m in signature.inputs if m.name == b"embeddings")
    old = mapped.tensorIndex
    whole = [int(n) for n in graph.tensors[old].shape]
    halves = [whole[0], whole[1], 2, whole[2] // 2]
    first = add_tensor(graph, old, whole, b"first_part")
    second = add_tensor(graph, old, halves, b"second_part")
    joined = add_tensor(graph, old, whole, b"second_joined")
    add = operator(
        model,
        ops.ADD,
        [first, joined],
        old,
        schema.BuiltinOptions.AddOptions,
        schema.AddOptionsT(),
    )
    join = reshape(model, graph, second, joined, whole)
    graph.operators = [join, add, *graph.operators]
    mapped.tensorIndex = first
    added = schema.TensorMapT()
    added.name, added.tensorIndex = b"per_layer_embeddings", second
    signature.inputs.append(added)
    inputs = [first if i == old else i for i in graph.inputs]
    graph.inputs = [*inputs, second]
  save("model.tflite", model)


def sentencepiece_of(
    out: pathlib.Path, checkpoint: pathlib.Path, normalize: str
) -> None:
  """tokenizer.model by litert-torch's own conversion of a BPE tokenizer.

  With `samples.json`: the ids that Python's SentencePiece gives for texts.

  Args:
    normalize: "decode", or "none" for pieces in GPT-2's alphabet, which a .task
      with enable_bytes_to_unicode_mapping has.
  """
  conversions.stub_tensorflow()
  from litert_torch.generative.tools import tokenizer_to_sentencepiece_lib as lib
  import sentencepiece
  from sentencepiece import sentencepiece_model_pb2
  import text_samples
  import transformers

  tokenizer = transformers.AutoTokenizer.from_pretrained(str(checkpoint))
  model = sentencepiece_model_pb2.ModelProto.FromString(
      lib.convert(tokenizer, normalize)
  )
  for id, piece in enumerate(model.pieces):
    if "\0" in piece.piece:
      # SentencePiece 0.2.3 loads no such model, older ones do.
      piece.piece = tokenizer.convert_ids_to_tokens(id)
  proto = model.SerializeToString()
  (out / "tokenizer.model").write_bytes(proto)
  processor = sentencepiece.SentencePieceProcessor()
  processor.LoadFromSerializedProto(proto)
  alphabet = lib._bytes_to_unicode()

  def encode(text):
    if normalize == "none":
      text = "".join(alphabet[byte] for byte in text.encode())
    return processor.EncodeAsIds(text)

  samples = [
      {"text": text, "ids": encode(text)} for text in text_samples.samples()
  ]
  (out / "samples.json").write_text(json.dumps({"samples": samples}))


def custom_operator(
    out: pathlib.Path, float_file: pathlib.Path, operator: str
) -> None:
  """Turns one kind of operator into a custom one."""
  from ai_edge_litert import schema_py_generated as schema
  import flatbuffers

  model = schema.ModelT.InitFromPackedBuf(float_file.read_bytes(), 0)
  ops = schema.BuiltinOperator
  for code in model.operatorCodes:
    if code.builtinCode in (ops.SOFTMAX, ops.EXP, ops.LOGISTIC):
      code.builtinCode = code.deprecatedBuiltinCode = ops.CUSTOM
      code.customCode = operator.encode()
      break
  builder = flatbuffers.Builder(1 << 24)
  builder.Finish(model.Pack(builder), b"TFL3")
  out.write_bytes(builder.Output())
