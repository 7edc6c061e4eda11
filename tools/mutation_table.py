# SPDX-License-Identifier: Apache-2.0
"""What verify_tflite must say of each conversion broken on purpose."""

import dataclasses
from typing import Callable

import conversions
import mutated_checkpoints as c
import mutations as m
import quantisers as q
import static_conversions
import static_mutations as st


@dataclasses.dataclass(frozen=True)
class Mutation:
  """One fault, the file that has it and the verdict it must get."""

  file: str
  checkpoint: str
  fault: str
  # Any of these is right; the first is meant.
  outcomes: tuple[str, ...]
  # The first finding must be one of these; none of them: no finding.
  findings: tuple[str, ...]
  # How the file is made; None where an earlier test made it.
  make: Callable | None = None
  # As Model's in make_models.py.
  inputs: dict[str, str] = dataclasses.field(default_factory=dict)
  options: dict = dataclasses.field(default_factory=dict)
  # Of verify_tflite.
  flags: tuple[str, ...] = ()
  # Smaller than this recipe's noise: to pass it is no mistake, but is listed.
  may_hide: bool = False
  # No run reaches it: nothing differs, but local verification must not pass.
  unproven: bool = False
  # What the first finding's sentence must have in it: figures.
  says: tuple[str, ...] = ()


_BROKEN = ("broken",)
_SUBTLE = ("degraded", "broken")
# Longer than the longest prefill of the small conversions, so that it is fed
# in several pieces.
_LONG = (
    "--prompts=Tell me about the river that runs past the old mill, the bridge"
    " that was built over it, the boats that are tied up below the bridge, the"
    " people who fish there in the evening, what they catch, how they carry it"
    " home, who waits for them at the door, and why the children would rather"
    " stay by the water until the lamps are lit. Then say in two sentences"
    " what has changed there since the railway came.",
)


def _add_quantisers(add, made_before) -> None:
  """What other quantisers than minimum and maximum must not hide."""
  for file in ("tiny_gptq_q8.tflite", "tiny_gptq_q4_block32.tflite"):
    for checkpoint, fault, finding in (
        ("tiny_other", "GPTQ of another checkpoint", "wrong-checkpoint"),
        ("mut_lora", "GPTQ of the model without its LoRA", "lora-not-merged"),
        ("mut_fine_tune", "GPTQ of the base model", "wrong-checkpoint"),
    ):
      made_before(file, checkpoint, fault, finding)
  made_before(
      "tiny_qat8_recovered.tflite",
      "tiny_other",
      "weights on a grid, of another checkpoint",
      "wrong-checkpoint",
  )
  made_before(
      "tiny_hadamard_op.tflite",
      "tiny_other",
      "weights rotated by an operator, of another checkpoint",
      "wrong-checkpoint",
  )
  add(
      "q8_zero_scale",
      "tiny_q8",
      "int8: a row of zeros with a scale of 0",
      "",  # an error that names it, before anything runs
      m.zero_scale,
      ("error",),
      role="1.gate",
      row=5,
  )
  one = "weight-differs"
  for name, base, fault, finding, make in (
      ("one_sign", "gptq_q8", "GPTQ, one number of the other sign", one, q.codes),
      ("rows_swapped", "gptq_q8", "GPTQ, two rows exchanged", one, q.codes),
      ("moved", "gptq_q8", "GPTQ, numbers moved at random", one, q.codes),
      ("lost", "oscar_q8", "OSCAR, factors before o lost", one, q.factors),
      (
          "one_percent",
          "oscar_q8",
          "OSCAR, one factor 1 % too large",
          one,
          q.factors,
      ),
      (
          "norm",
          "f32",
          "SmoothQuant, factors in the products alone",
          one,
          q.folded_factors,
      ),
      (
          "products",
          "f32",
          "SmoothQuant, factors in the norm alone",
          "norm-weights",
          q.folded_factors,
      ),
  ):
    add(
        f"{base}_{name}",
        f"tiny_{base}",
        fault,
        finding,
        make,
        _SUBTLE,
        fault=name,
    )


def _add_quantised_computation(add) -> None:
  """Faults in what is computed, which the weights say nothing of.

  The finding is that of the same fault in a float file, however far below the
  noise of quantisation it lies.
  """
  eps = dict(old=1e-5, new=1e-6)
  both = ["prefill_8", "prefill_64"]
  for recipe, name, base, rows in (
      (
          "int8",
          "q8",
          "tiny_q8",
          (
              "rope_base_1_percent rope_position_doubled decode_position"
              " mask_none mask_peek mask_strict mask_prefill mask_window"
              " mask_decode attention_scale attention_scale_1_percent"
              " heads_q_k heads_k_v heads_kv heads_grouping"
              " cache_before_rope activation gate_up"
          ),
      ),
      (
          "int8 of export_hf",
          "hf_q8",
          "tiny_hf_q8",
          (
              "eps rope_base_1_percent rope_none rope_layer_lost"
              " positions_restart hf_attention_scale cache_slot activation"
          ),
      ),
      (
          "int4",
          "q4",
          "tiny_q4_block32",
          (
              "eps rope_base_1_percent rope_position_doubled decode_position"
              " mask_none mask_peek mask_strict mask_window mask_decode"
              " attention_scale cache_before_rope activation"
          ),
      ),
  ):
    faults = {
        "eps": (
            "norm epsilon 1e-6 instead of 1e-5",
            "norm-eps",
            m.norm_eps,
            _SUBTLE,
            eps,
        ),
        "rope_base_1_percent": (
            "RoPE base 1 % too large",
            "rope-base",
            m.rope_base,
            _SUBTLE,
            dict(factor=1.01),
        ),
        "rope_none": (
            "no RoPE at all",
            "rope-missing",
            m.rope_scale,
            _BROKEN,
            dict(factor=0),
        ),
        "rope_layer_lost": (
            "layer 2 is not rotated",
            "rope-missing",
            m.rope_layer_lost,
            _BROKEN,
            dict(layer=2),
        ),
        "rope_position_doubled": (
            "RoPE angles twice as large",
            "rope-scaling",
            m.rope_scale,
            _BROKEN,
            dict(factor=2.0),
        ),
        "positions_restart": (
            "positions count from 0 in every piece of a long prompt",
            "positions-restart",
            m.positions_restart,
            _BROKEN,
            dict(flags=_LONG),
        ),
        "decode_position": (
            "decode's RoPE is one position ahead",
            "decode-position",
            m.decode_position,
            _BROKEN,
            dict(shift=1),
        ),
        "mask_none": ("no mask", "mask", m.mask, _BROKEN, dict(fault="none")),
        "mask_peek": (
            "mask lets the next token in",
            "mask",
            m.mask,
            _BROKEN,
            dict(fault="peek"),
        ),
        "mask_strict": (
            "tokens do not see themselves",
            "mask",
            m.mask,
            _BROKEN,
            dict(fault="strict"),
        ),
        "mask_prefill": (
            "no mask in prefill; right in decode",
            "mask",
            m.mask_of,
            _BROKEN,
            dict(fault="none", signatures=both),
        ),
        "mask_window": (
            "a sliding window of 16 that the checkpoint has not",
            "sliding-window mask",
            m.mask,
            _BROKEN,
            dict(fault="window"),
        ),
        "mask_decode": (
            "a sliding window of 16 in decode only",
            "sliding-window mask",
            m.mask_of,
            _BROKEN,
            dict(fault="window", signatures=["decode"]),
        ),
        "attention_scale": (
            "scores are not divided by the root of the head size",
            "attention-scale",
            m.composite_scale,
            _BROKEN,
            dict(factor=4.0),
        ),
        "attention_scale_1_percent": (
            "scores 1 % too large",
            "attention-scale",
            m.composite_scale,
            _SUBTLE,
            dict(factor=1.01, says=("scaled by 0.2525", "instead of 0.25")),
        ),
        "hf_attention_scale": (
            "scores are not divided by the root of the head size",
            "attention-scale",
            m.scalar,
            _BROKEN,
            dict(kinds=("MUL",), old=0.25, new=1.0),
        ),
        "heads_q_k": (
            "a query head and its key head swapped",
            "qk-swapped",
            m.heads_int8,
            _BROKEN,
            dict(fault="q_k"),
        ),
        "heads_k_v": (
            "k and v swapped",
            "kv-swapped",
            m.heads_int8,
            _BROKEN,
            dict(fault="k_v"),
        ),
        "heads_kv": (
            "KV heads in the wrong order",
            "kv-layout",
            m.heads_int8,
            _BROKEN,
            dict(fault="kv_heads"),
        ),
        "heads_grouping": (
            "query head h uses KV head h mod 2 instead of h / 2",
            "kv-layout",
            m.heads_int8,
            _BROKEN,
            dict(fault="grouping"),
        ),
        "cache_slot": (
            "decode writes K of layer 2 one position too low",
            "kv-update",
            m.cache_slot,
            _BROKEN,
            dict(layer=2),
        ),
        "cache_before_rope": (
            "decode stores K without RoPE",
            "kv-update decode-position",
            m.cache_before_rope,
            _BROKEN,
            {},
        ),
        "activation": (
            "GELU instead of SiLU",
            "activation",
            m.activation,
            _SUBTLE,
            {},
        ),
        "gate_up": (
            "gate and up swapped",
            "gate-up-swapped",
            m.gate_up_swapped_int8,
            _BROKEN,
            {},
        ),
    }
    for row in rows.split():
      fault, findings, make, outcomes, options = faults[row]
      add(
          f"{name}_{row.removeprefix('hf_')}",
          base,
          f"{recipe}: {fault}",
          findings,
          make,
          outcomes,
          **options,
      )


def _add_thresholds(add) -> None:
  """Operators that no number of a run reaches."""
  for name, base, recipe in (
      ("f32", "tiny_f32", "float"),
      ("q8", "tiny_q8", "int8"),
      ("q4", "tiny_q4_block32", "int4"),
      ("hf_f32", "tiny_export_hf", "float of export_hf"),
      ("hf_q8", "tiny_hf_q8", "int8 of export_hf"),
  ):
    for key, kind, at in (
        ("clamp", "MINIMUM", 50),
        ("clamp_below", "MAXIMUM", -50),
        ("select", "SELECT_V2", 50),
    ):
      add(
          f"{name}_{key}",
          base,
          f"{recipe}: {kind} at {at}, which no run reaches",
          "",
          m.threshold,
          ("pass", "degraded"),
          unproven=True,
          kind=kind,
          at=float(at),
      )


def _add_scaled_rope(add) -> None:
  """Each parameter of a scaled RoPE."""
  base = ("base", "rope-base", dict(rope_theta=20000.0), ("20000", "10000"))
  scaling = "rope-scaling"
  original = "original_max_position_embeddings"
  rows = {
      "llama3": [
          base,
          ("factor", scaling, dict(factor=4.0), ("factor 4,", "says 8")),
          (
              "low_freq_factor",
              scaling,
              dict(low_freq_factor=2.0),
              ("low_freq_factor 2,", "says 1"),
          ),
          (
              "high_freq_factor",
              scaling,
              dict(high_freq_factor=8.0),
              ("high_freq_factor 8,", "says 4"),
          ),
          (
              "original length",
              scaling,
              {original: 128},
              (f"{original} 128,", "says 64"),
          ),
      ],
      "yarn": [
          base,
          (
              "factor",
              scaling,
              dict(factor=8.0),
              ("factor and the attention factor", "8,", "says 4"),
          ),
          (
              "attention_factor",
              scaling,
              dict(attention_factor=1.0),
              ("attention factor is 1,", "has 1.13863"),
          ),
          (
              "beta_fast",
              scaling,
              dict(beta_fast=32.0),
              ("beta_fast", "says 8"),
          ),
          (
              "beta_slow",
              scaling,
              dict(beta_slow=2.0),
              ("beta_slow", "says 1"),
          ),
          (
              "original length",
              scaling,
              {original: 256},
              (original, "says 128"),
          ),
      ],
  }
  for kind, faults in rows.items():
    for suffix, recipe in (("", ""), ("_q8", "int8: ")):
      for what, finding, changes, says in faults:
        name = what.replace(" ", "_")
        add(
            f"{kind}{suffix}_{name}",
            f"small_{kind}{suffix}",
            f"{recipe}wrong {what} of a {kind} RoPE",
            finding,
            m.rope_parameters,
            _SUBTLE,
            checkpoint=f"text_small_{kind}",
            inputs={"rope_of": f"small_{kind}"},
            says=says,
            changes=changes,
        )


def _add_tables(add) -> None:
  """Faults at positions that no run of a verification comes to."""
  for name, base, recipe in (
      ("f32", "tiny_f32", "float"),
      ("q8", "tiny_q8", "int8"),
      ("q4", "tiny_q4_block32", "int4"),
  ):
    for key, what, options in (
        (
            "row_1",
            "row 1 of the mask's table hides token 0",
            dict(fault="past", first=1, last=1, hidden=1),
        ),
        (
            "rows_future",
            "rows 150 to 170 of the mask's table see the future",
            dict(fault="future", first=150, last=170),
        ),
        (
            "row_last",
            "the last row of the mask's table hides token 0",
            dict(fault="past", first=255, last=255, hidden=1),
        ),
    ):
      add(
          f"{name}_mask_{key}",
          base,
          f"{recipe}: {what}",
          "mask",
          m.mask_rows,
          **options,
      )
  for name, base, recipe in (
      ("f32", "tiny_f32", "float"),
      ("hf_q8", "tiny_hf_q8", "int8 of export_hf"),
  ):
    add(
        f"{name}_rope_entry",
        base,
        f"{recipe}: one frequency of RoPE 1e-4 too large",
        "rope-table rope-scaling",
        m.rope_entry,
        _SUBTLE,
        index=2,
        factor=1 + 1e-4,
    )
  for name, base, recipe in (
      ("f32", "tiny_f32", "float"),
      ("q8", "tiny_q8", "int8"),
  ):
    add(
        f"{name}_mask_short",
        base,
        f"{recipe}: the mask's table has 200 rows for a KV cache of 256",
        "table-too-short",
        m.mask_short,
        rows=200,
    )
  for name, base, recipe in (
      ("f32", "tiny_f32", "float"),
      ("q8", "tiny_q8", "int8"),
      ("hf_q8", "tiny_hf_q8", "int8 of export_hf"),
  ):
    add(
        f"{name}_prefill_row",
        base,
        f"{recipe}: one number of row 30 of prefill_64's gate of layer 1 is"
        " off",
        "computation-differs prefill-differs",
        m.prefill_row,
        _SUBTLE,
        signature="prefill_64",
        role="1.gate",
        row=30,
        column=7,
        size=0.1,
    )
  large = dict(checkpoint="smollm2")
  add(
      "smollm2_q8_mask_future",
      "smollm2_q8",
      "SmolLM2 int8: rows 700 to 1000 of the mask's table see the future",
      "mask",
      m.mask_rows,
      fault="future",
      first=700,
      last=1000,
      **large,
  )
  add(
      "smollm2_q8_mask_past",
      "smollm2_q8",
      "SmolLM2 int8: rows 600 to 1000 of the mask's table hide tokens 0 to 499",
      "mask",
      m.mask_rows,
      fault="past",
      first=600,
      last=1000,
      hidden=500,
      **large,
  )


def _add_static(add, rows: list[Mutation]) -> None:
  """What static recipes get wrong by themselves."""
  calibrated = {
      "float_file": "tiny_mask.tflite",
      "measured": "tiny_static_ranges",
  }
  infinite = calibrated | {"measured": "tiny_static_infinite_ranges"}
  for name, fault, finding, outcomes, options in (
      (
          "a8_narrow",
          "int8 static: ranges half as wide as what was measured",
          "activation-range",
          _SUBTLE,
          dict(bits=8, narrow=0.5),
      ),
      (
          "a16_narrow",
          "int16 static: ranges half as wide as what was measured",
          "activation-range",
          _SUBTLE,
          dict(bits=16, narrow=0.5),
      ),
      (
          "a16_own_ranges",
          "int16 static: KV caches with a range for each end",
          "kv-scale-differs",
          _SUBTLE,
          dict(bits=16, one_range=False),
      ),
      (
          "a16_mask_lost",
          "int16 static: calibrated with minus infinity in the mask",
          "mask-range",
          _BROKEN,
          dict(bits=16),
      ),
      (
          "a8_angles",
          "int8 static: angles of RoPE as integers",
          "rope-precision",
          _SUBTLE,
          dict(bits=8, float_angles=False),
      ),
      (
          "a8_signatures",
          "int8 static: signatures name tensors that are no outputs",
          "signature-output",
          _BROKEN,
          dict(bits=8, mended=False),
      ),
  ):
    rows.append(
        Mutation(
            f"mut_static_{name}.tflite",
            "tiny",
            fault,
            outcomes,
            (finding,),
            static_conversions.quantize,
            infinite if name == "a16_mask_lost" else calibrated,
            options,
        )
    )
  for name, bits, fault, findings, make, outcomes, options in (
      (
          "range",
          8,
          "one tensor's scale divided by 4",
          "activation-range",
          st.output_scale,
          _SUBTLE,
          dict(role="1.o", factor=0.25),
      ),
      (
          "range",
          16,
          "one tensor's scale divided by 4",
          "activation-range",
          st.output_scale,
          _SUBTLE,
          dict(role="2.down", factor=0.25),
      ),
      (
          "scale_lost",
          8,
          "a product reads its input with a scale 10 % too large",
          "computation-differs",
          st.input_scale,
          _SUBTLE,
          dict(role="1.o", factor=1.1),
      ),
      (
          "zero_point_lost",
          8,
          "a product reads its input with another zero point",
          "computation-differs",
          st.input_scale,
          _SUBTLE,
          dict(role="1.o", shift=3),
      ),
      (
          "eps",
          8,
          "norm epsilon 1e-6 instead of 1e-5",
          "norm-eps",
          st.norm_eps,
          _SUBTLE,
          dict(factor=0.1),
      ),
      (
          "eps",
          16,
          "norm epsilon 1e-6 instead of 1e-5",
          "norm-eps",
          st.norm_eps,
          _SUBTLE,
          dict(factor=0.1),
      ),
      (
          "rope_base",
          16,
          "RoPE base 1 % too large",
          "rope-base",
          m.rope_base,
          _SUBTLE,
          dict(factor=1.01),
      ),
      (
          "scale",
          8,
          "scales of one product's weights 5 % too large",
          "scale weight-differs",
          m.scales,
          _SUBTLE,
          dict(role="2.gate", fault="5_percent"),
      ),
      (
          "row_lost",
          16,
          "one row of a product's weights lost",
          "weight-differs",
          m.weight,
          _SUBTLE,
          dict(role="2.up", fault="row_lost"),
      ),
  ):
    add(
        f"static_a{bits}_{name}",
        f"tiny_static_a{bits}",
        f"int{bits} static: {fault}",
        findings,
        make,
        outcomes,
        **options,
    )


def _table() -> list[Mutation]:
  rows: list[Mutation] = []

  def add(
      name,
      base,
      fault,
      findings,
      make,
      outcomes=_BROKEN,
      /,
      checkpoint="tiny",
      flags=(),
      inputs=None,
      may_hide=False,
      unproven=False,
      says=(),
      **options,
  ):
    rows.append(
        Mutation(
            f"mut_{name}.tflite",
            checkpoint,
            fault,
            outcomes,
            tuple(findings.split()),
            make,
            {"base": f"{base}.tflite"} | (inputs or {}),
            options,
            flags,
            may_hide,
            unproven,
            says,
        )
    )

  def made_before(name, checkpoint, fault, findings, outcomes=_BROKEN):
    rows.append(
        Mutation(name, checkpoint, fault, outcomes, tuple(findings.split()))
    )

  f32, hf, q8 = "tiny_f32", "tiny_export_hf", "tiny_q8"
  both = ["prefill_8", "prefill_64"]

  # Wrong position encoding.
  made_before("tiny_wrong_rope.tflite", "tiny", "RoPE base x10", "rope-base")
  add("rope_base_x2", hf, "RoPE base x2", "rope-base", m.rope_base, factor=2.0)
  add(
      "rope_base_1_percent",
      f32,
      "RoPE base 1 % too large",
      "rope-base",
      m.rope_base,
      _SUBTLE,
      factor=1.01,
  )
  add("rope_none", hf, "no RoPE at all", "rope-missing", m.rope_scale, factor=0)
  add(
      "rope_layer_lost",
      hf,
      "layer 2 is not rotated",
      "rope-missing",
      m.rope_layer_lost,
      layer=2,
  )
  add(
      "rope_interleaved",
      hf,
      "rows of q and k in the order of Meta's checkpoints",
      "rope-interleaved",
      m.rope_interleaved,
  )
  add(
      "rope_position_doubled",
      f32,
      "RoPE angles twice as large: linear scaling that is not the checkpoint's",
      "rope-scaling",
      m.rope_scale,
      factor=2.0,
  )
  add(
      "gemma3_rope_scaling_lost",
      "ref_gemma3",
      "linear scaling of the global RoPE lost",
      "rope-scaling",
      m.rope_scale,
      checkpoint="text_gemma3",
      factor=8.0,
      place=0,
  )
  add(
      "gemma3_local_rope_base",
      "ref_gemma3",
      "RoPE base of the sliding layers 10000 instead of 500",
      "rope-base",
      m.rope_base,
      checkpoint="text_gemma3",
      factor=20.0,
      place=1,
  )
  add(
      "positions_restart",
      hf,
      "positions count from 0 in every piece of a long prompt",
      "positions-restart",
      m.positions_restart,
      flags=_LONG,
  )
  add(
      "decode_position",
      f32,
      "decode's RoPE is one position ahead",
      "decode-position",
      m.decode_position,
      shift=1,
  )

  # Wrong attention.
  add("mask_none", f32, "no mask", "mask", m.mask, fault="none")
  add(
      "mask_peek",
      f32,
      "mask lets the next token in",
      "mask",
      m.mask,
      fault="peek",
  )
  add(
      "mask_strict",
      f32,
      "tokens do not see themselves",
      "mask",
      m.mask,
      fault="strict",
  )
  add(
      "mask_prefill",
      f32,
      "no mask in prefill; right in decode",
      "mask",
      m.mask_of,
      fault="none",
      signatures=both,
  )
  add(
      "mask_window",
      f32,
      "a sliding window of 16 that the checkpoint has not",
      "sliding-window mask",
      m.mask,
      fault="window",
  )
  add(
      "mask_decode",
      f32,
      "a sliding window of 16 in decode only",
      "sliding-window mask",
      m.mask_of,
      fault="window",
      signatures=["decode"],
  )
  rows.append(
      Mutation(
          "mut_bool_mask.tflite",
          "tiny",
          "export_hf --use_bool_mask: 0 and 1 are added to the scores",
          _BROKEN,
          ("mask",),
          m.bool_mask,
          {"checkpoint": "tiny"},
          dict(prefill=[8, 64], cache=256),
      )
  )
  window = dict(kinds=("SUB", "ADD"), old=29, checkpoint="text_gemma3")
  add(
      "gemma3_window_28",
      "ref_gemma3",
      "sliding window 28 instead of 29",
      "sliding-window",
      m.scalar,
      _SUBTLE,
      **window,
      new=28,
  )
  add(
      "gemma3_window_lost",
      "ref_gemma3",
      "no sliding window",
      "sliding-window",
      m.scalar,
      **window,
      new=100000,
  )
  add(
      "gemma3_windows_swapped",
      "ref_gemma3",
      "sliding and full layers in each other's place",
      "sliding-window",
      m.windows_swapped,
      checkpoint="text_gemma3",
  )
  add(
      "attention_scale",
      hf,
      "scores are not divided by the root of the head size",
      "attention-scale",
      m.scalar,
      kinds=("MUL",),
      old=0.25,
      new=1.0,
  )
  add(
      "attention_scale_1_percent",
      f32,
      "scores 1 % too large",
      "attention-scale",
      m.composite_scale,
      _SUBTLE,
      says=("scaled by 0.2525", "instead of 0.25"),
      factor=1.01,
  )
  add(
      "gemma2_query_scalar",
      "ref_gemma2",
      "query_pre_attn_scalar ignored",
      "attention-scale",
      m.scalar,
      _SUBTLE,
      checkpoint="text_gemma2",
      kinds=("MUL",),
      old=11**-0.5,
      new=20**-0.5,
  )
  add(
      "gemma2_query_scalar_12",
      "ref_gemma2",
      "query_pre_attn_scalar 12 instead of 11",
      "attention-scale",
      m.scalar,
      _SUBTLE,
      checkpoint="text_gemma2",
      says=("(1 / sqrt(12))", "(1 / sqrt(11))"),
      kinds=("MUL",),
      old=11**-0.5,
      new=12**-0.5,
  )
  for final, cap, new in (("final", 4.0, 4.1), ("attention", 3.0, 3.2)):
    add(
        f"gemma2_{final}_cap",
        "ref_gemma2",
        f"soft-capping of the {'logits' if cap == 4 else 'attention scores'}"
        f" at {new} instead of {cap}",
        "soft-capping",
        m.cap,
        _SUBTLE,
        checkpoint="text_gemma2",
        # The final cap is part of the head: the weights tell.
        says=(f"capped at {new} instead of {cap:g}",) if cap == 3 else (),
        final=final == "final",
        factor=new / cap,
    )
  for final, part in ((True, "final"), (False, "attention")):
    add(
        f"gemma2_no_{part}_capping",
        "ref_gemma2",
        "soft-capping of the logits lost"
        if final
        else "soft-capping of the attention scores lost",
        "soft-capping",
        m.soft_capping,
        checkpoint="text_gemma2",
        final=final,
    )
  add(
      "heads_q_k",
      f32,
      "a query head and its key head swapped",
      "qk-swapped",
      m.heads,
      fault="q_k",
  )
  add("heads_k_v", f32, "k and v swapped", "kv-swapped", m.heads, fault="k_v")
  add(
      "heads_kv",
      f32,
      "KV heads in the wrong order",
      "kv-layout",
      m.heads,
      fault="kv_heads",
  )
  add(
      "heads_grouping",
      f32,
      "query head h uses KV head h mod 2 instead of h / 2",
      "kv-layout",
      m.heads,
      fault="grouping",
  )
  add(
      "qwen3_no_qk_norm",
      "ref_qwen3",
      "q and k are not normed",
      "qk-norm",
      m.qk_norm_lost,
      checkpoint="text_qwen3",
  )
  add(
      "qwen2_no_bias",
      "ref_qwen2",
      "biases of q, k and v lost",
      "attention-bias-missing",
      m.biases_zero,
      checkpoint="text_qwen2",
  )

  # Wrong KV caches, right or wrong in one signature only.
  add(
      "cache_slot",
      hf,
      "decode writes K of layer 2 one position too low",
      "kv-update",
      m.cache_slot,
      layer=2,
  )
  add(
      "cache_before_rope",
      f32,
      "decode stores K without RoPE",
      "kv-update decode-position",
      m.cache_before_rope,
  )
  add(
      "decode_weight",
      f32,
      "decode has one weight of another checkpoint; prefill is right",
      "decode-differs weight-differs",
      m.weight_of,
      inputs={"other": "tiny_wrong_weights.tflite"},
      role="1.down",
      signatures=["decode"],
  )
  add(
      "prefill_weight",
      f32,
      "prefill_64 has one weight of another checkpoint; the rest is right",
      "prefill-differs weight-differs",
      m.weight_of,
      inputs={"other": "tiny_wrong_weights.tflite"},
      role="1.down",
      signatures=["prefill_64"],
  )

  # Wrong norms, activations, embedding and head.
  made_before(
      "tiny_wrong_eps.tflite", "tiny", "norm epsilon 1e-6 instead of 1e-5",
      "norm-eps", _SUBTLE,
  )
  add(
      "eps_1e_3",
      hf,
      "norm epsilon 1e-3 instead of 1e-5",
      "norm-eps",
      m.norm_eps,
      old=1e-5,
      new=1e-3,
  )
  add(
      "eps_2e_5",
      f32,
      "norm epsilon 2e-5 instead of 1e-5",
      "norm-eps",
      m.norm_eps,
      _SUBTLE,
      says=("2e-05 instead of 1e-05",),
      old=1e-5,
      new=2e-5,
  )
  add(
      "q8_eps_3e_5",
      q8,
      "int8: norm epsilon 3e-5 instead of 1e-5",
      "norm-eps",
      m.norm_eps,
      _SUBTLE,
      says=("3e-05 instead of 1e-05",),
      old=1e-5,
      new=3e-5,
  )
  add(
      "gemma3_norm_without_one",
      "ref_gemma3",
      "norms multiply by w instead of 1 + w",
      "norm-weights",
      m.norm_weights,
      checkpoint="text_gemma3",
      fault="minus_one",
  )
  add(
      "final_norm",
      f32,
      "weights of the final norm replaced by their mean",
      "norm-weights weight-differs",
      m.norm_weights,
      fault="final_lost",
  )
  add(
      "norms_swapped",
      f32,
      "the two norms of layer 1 swapped",
      "norm-weights weight-differs",
      m.norm_weights,
      fault="swapped",
  )
  add(
      "norms_bfloat16",
      f32,
      "norm weights rounded to bfloat16",
      "precision-loss weight-differs",
      m.norm_weights,
      _SUBTLE,
      fault="bfloat16",
  )
  add(
      "gemma3_gelu_exact",
      "ref_gemma3",
      "exact GELU instead of its tanh approximation",
      "activation",
      m.exact_gelu,
      _SUBTLE,
      checkpoint="text_gemma3",
  )
  add("activation", f32, "GELU instead of SiLU", "activation", m.activation)
  add(
      "gate_up",
      f32,
      "gate and up swapped",
      "gate-up-swapped",
      m.gate_up_swapped,
  )
  add(
      "gemma3_embedding_scale",
      "ref_gemma3",
      "embedding not multiplied by the root of the hidden size",
      "embedding",
      m.scalar,
      checkpoint="text_gemma3",
      kinds=("MUL",),
      old=72**0.5,
      new=1.0,
  )
  add(
      "gemma3_embedding_1_percent",
      "ref_gemma3",
      "embedding scaled by 1 % more than the root of the hidden size",
      "embedding",
      m.scalar,
      _SUBTLE,
      checkpoint="text_gemma3",
      says=("multiplied by 8.57", "instead of 8.48528"),
      kinds=("MUL",),
      old=72**0.5,
      new=8.57,
  )
  add(
      "embedding_lost",
      f32,
      "embedding of the token <|im_start|> is zero",
      "embedding weight-differs",
      m.embedding_lost,
      token=1,
  )
  add(
      "embedding_shifted",
      f32,
      "embedding rows off by one token",
      "embedding",
      m.embedding_shifted,
  )
  add(
      "head_shifted",
      f32,
      "rows of the LM head off by one token",
      "lm-head",
      m.head,
      fault="shifted",
  )
  add(
      "head_random",
      f32,
      "LM head of random numbers",
      "lm-head",
      m.head,
      fault="random",
  )
  add(
      "head_other",
      f32,
      "LM head of another checkpoint",
      "lm-head",
      m.head,
      inputs={"other": "tiny_wrong_weights.tflite"},
      fault="other",
  )
  add(
      "mistral_head_tied",
      "ref_mistral",
      "embedding used as LM head, where the checkpoint has its own",
      "tied-head",
      m.head,
      checkpoint="text_mistral",
      fault="tied",
  )
  add(
      "logits_constant",
      f32,
      "all logits are 0",
      "constant-logits",
      m.head,
      fault="zero",
  )

  # Wrong weights.
  made_before(
      "tiny_wrong_weights.tflite",
      "tiny",
      "weights of another checkpoint",
      "wrong-checkpoint",
  )
  made_before(
      "tiny_wrong_layers.tflite",
      "tiny",
      "layers 1 and 2 swapped",
      "layer-order",
  )
  add(
      "layer_repeated",
      f32,
      "layer 1 stands in layer 2's place too",
      "layer-order",
      m.layer_repeated,
      a=1,
      b=2,
  )
  add(
      "layer_skipped",
      f32,
      "layer 2 adds nothing",
      "layer-skipped",
      m.layer_skipped,
      layer=2,
  )
  one = "weight-differs"
  add(
      "weight_transposed",
      f32,
      "o of layer 1 transposed",
      "transposed-weight",
      m.weight,
      role="1.o",
      fault="transposed",
  )
  add(
      "weight_zero",
      f32,
      "down of layer 2 is zero",
      one,
      m.weight,
      role="2.down",
      fault="zero",
  )
  add(
      "weight_row",
      f32,
      "one row of gate of layer 1 is zero",
      one,
      m.weight,
      _SUBTLE,
      role="1.gate",
      fault="row_lost",
  )
  add(
      "weight_head_negated",
      f32,
      "output of one head of layer 1 negated",
      one,
      m.weight,
      role="1.o",
      fault="head_negated",
  )
  add(
      "weight_nan",
      f32,
      "one NaN in down of layer 1",
      "nan",
      m.weight,
      role="1.down",
      fault="nan",
  )
  add(
      "weight_infinity",
      f32,
      "one infinity in down of layer 1",
      "nan",
      m.weight,
      role="1.down",
      fault="infinity",
  )
  add(
      "weights_bfloat16",
      f32,
      "all weights rounded to bfloat16",
      "precision-loss",
      m.all_weights,
      _SUBTLE,
      fault="bfloat16",
  )
  for checkpoint, fault, findings, outcomes in (
      (
          "mut_lora",
          "LoRA not merged: base weights in q and v",
          "lora-not-merged",
          _BROKEN,
      ),
      (
          "mut_stale_tensor",
          "one stale tensor: down of layer 2 from before the fine-tune",
          one,
          _BROKEN,
      ),
      (
          "mut_fine_tune",
          "base model instead of its fine-tune",
          "wrong-checkpoint",
          _BROKEN,
      ),
      (
          "mut_own_head",
          "embedding used as head, where the checkpoint has its own",
          "tied-head",
          _BROKEN,
      ),
      ("mut_llama3_rope", "llama3 RoPE scaling lost", "rope-scaling", _BROKEN),
  ):
    made_before("tiny_f32.tflite", checkpoint, fault, findings, outcomes)

  # Wrong quantisation.
  add(
      "q8_truncated",
      q8,
      "int8 weights rounded towards zero",
      "quantisation-rounding",
      m.truncated,
      _SUBTLE,
      inputs={"float_file": "tiny_f32.tflite"},
  )
  add(
      "q8_two_bits",
      q8,
      "int8 weights with four values only",
      "quantisation-collapse",
      m.all_weights,
      fault="two_bits",
  )
  add(
      "q8_clipped",
      q8,
      "int8 weights clipped to a fifth of their range",
      "quantisation-collapse",
      m.all_weights,
      fault="clipped",
  )
  add(
      "q8_scales_doubled",
      q8,
      "scales of gate of layer 1 doubled",
      "scale",
      m.scales,
      _SUBTLE,
      role="1.gate",
      fault="doubled",
  )
  add(
      "q8_scales_5_percent",
      q8,
      "scales of gate of layer 1 5 % too large",
      "scale",
      m.scales,
      _SUBTLE,
      role="1.gate",
      fault="5_percent",
  )
  add(
      "q8_scales_reversed",
      q8,
      "scales of o of layer 1 in reverse order",
      "scale",
      m.scales,
      _SUBTLE,
      role="1.o",
      fault="reversed",
  )
  add(
      "q8_layers",
      q8,
      "int8: layers 1 and 2 swapped",
      "layer-order",
      m.layers_swapped,
      a=1,
      b=2,
  )
  add(
      "q8_rope",
      q8,
      "int8: RoPE base x10",
      "rope-base",
      m.rope_base,
      factor=10.0,
  )
  add(
      "q8_eps",
      q8,
      "int8: norm epsilon 1e-6 instead of 1e-5",
      "norm-eps",
      m.norm_eps,
      _SUBTLE,
      old=1e-5,
      new=1e-6,
  )
  _add_quantised_computation(add)
  _add_quantisers(add, made_before)
  _add_tables(add)
  _add_thresholds(add)
  _add_scaled_rope(add)
  _add_static(add, rows)
  for dtype in ("float16", "bfloat16"):
    for file, recipe in (("f32", "float"), ("q8", "int8"), ("hf_q8", "int8")):
      made_before(
          f"tiny_{file}.tflite",
          f"mut_{dtype}",
          f"{recipe}, against the {dtype} copy of its checkpoint",
          "checkpoint-rounded",
          _SUBTLE,
      )
  made_before(
      "tiny_q8.tflite",
      "mut_lora",
      "int8: LoRA not merged",
      "lora-not-merged",
  )

  # A real model.
  large = dict(checkpoint="smollm2")
  add(
      "smollm2_f32_eps",
      "smollm2_f32",
      "SmolLM2 float: norm epsilon 1e-6 instead of 1e-5",
      "norm-eps",
      m.norm_eps,
      _SUBTLE,
      old=1e-5,
      new=1e-6,
      **large,
  )
  add(
      "smollm2_q8_layers",
      "smollm2_q8",
      "SmolLM2 int8: layers 10 and 11 swapped",
      "layer-order",
      m.layers_swapped,
      a=10,
      b=11,
      **large,
  )
  add(
      "smollm2_q8_skipped",
      "smollm2_q8",
      "SmolLM2 int8: layer 15 adds nothing",
      "layer-skipped",
      m.layer_skipped,
      layer=15,
      **large,
  )
  add(
      "smollm2_q8_rope",
      "smollm2_q8",
      "SmolLM2 int8: RoPE base 10000 instead of 100000",
      "rope-base",
      m.rope_base,
      factor=0.1,
      **large,
  )
  add(
      "smollm2_q8_scales",
      "smollm2_q8",
      "SmolLM2 int8: scales of down of layer 20 doubled",
      "scale",
      m.scales,
      _SUBTLE,
      role="20.down",
      fault="doubled",
      **large,
  )
  add(
      "smollm2_q8_eps",
      "smollm2_q8",
      "SmolLM2 int8: norm epsilon 1e-6 instead of 1e-5",
      "norm-eps",
      m.norm_eps,
      _SUBTLE,
      old=1e-5,
      new=1e-6,
      **large,
  )
  add(
      "smollm2_q8_rope_1_percent",
      "smollm2_q8",
      "SmolLM2 int8: RoPE base 1 % too large",
      "rope-base",
      m.rope_base,
      _SUBTLE,
      factor=1.01,
      **large,
  )
  add(
      "smollm2_q4_eps",
      "smollm2_q4_block32",
      "SmolLM2 int4: norm epsilon 1e-6 instead of 1e-5",
      "norm-eps",
      m.norm_eps,
      _SUBTLE,
      old=1e-5,
      new=1e-6,
      **large,
  )
  made_before(
      "smollm2_q8.tflite",
      "mut_smollm2_lora",
      "SmolLM2 int8: LoRA not merged",
      "lora-not-merged",
  )

  # What a bundle says beside the model.
  for part, findings in (
      ("stop", "stop-token-differs"),
      ("start", "start-token-differs"),
      ("template", "template-differs"),
      ("tokenizer", "tokenizer-differs"),
  ):
    made_before(
        f"tiny_bundle_wrong_{part}.litertlm",
        "tiny",
        f"bundle: another {part}",
        findings,
    )
  made_before(
      "tiny_bundle_affixes.litertlm",
      "tiny",
      "bundle: no system turn, where the checkpoint's template writes one",
      "template-differs",
  )
  # As litert-torch 0.10.0 makes it.
  made_before(
      "tiny_export_hf.litertlm",
      "tiny",
      "bundle: BOS twice, by the start token and by the template",
      "start-token-differs",
  )
  made_before(
      "tiny_bundle.litertlm",
      "mut_bos",
      "bundle: no BOS, where the checkpoint's template writes it",
      "bos-missing",
  )
  made_before(
      "tiny_bundle.litertlm",
      "mut_trim",
      "bundle: texts are not trimmed, where the checkpoint's template trims",
      "template-differs",
  )
  made_before(
      "tiny_bundle.litertlm",
      "mut_tools",
      "bundle: no tools, where the checkpoint's template lists them",
      "template-differs",
  )
  made_before(
      "tiny_bundle.litertlm",
      "mut_fewer_merges",
      "bundle: a tokenizer with 100 merges more",
      "tokenizer-differs",
  )
  tiny = {"checkpoint": "tiny", "tflite": "tiny_f32.tflite"}
  for name, checkpoint, fault, finding, inputs, options in (
      (
          "fewer_merges",
          "tiny",
          "bundle: a tokenizer with 100 merges fewer",
          "tokenizer-differs",
          tiny | {"tokenizer": "mut_fewer_merges"},
          dict(stop_tokens=[2]),
      ),
      (
          "ignore_merges",
          "mut_ignore_fewer_merges",
          "bundle: the same, where merges are for words that are no token",
          "tokenizer-differs",
          tiny | {"tokenizer": "mut_ignore_merges"},
          dict(stop_tokens=[2]),
      ),
      (
          "extra_stop",
          "tiny",
          "bundle: stops at a comma, too",
          "stop-token-differs",
          tiny,
          dict(stop_tokens=[2, 28]),
      ),
  ):
    rows.append(
        Mutation(
            f"mut_bundle_{name}.litertlm",
            checkpoint,
            fault,
            _BROKEN,
            (finding,),
            conversions.bundle,
            inputs,
            dict(start_token=None) | options,
        )
    )
  return rows


MUTATIONS = _table()

# Name -> (maker, inputs, options): the checkpoints the table needs.
CHECKPOINTS = {
    "mut_float16": (c.rounded, {"checkpoint": "tiny"}, {"dtype": "float16"}),
    "mut_bfloat16": (c.rounded, {"checkpoint": "tiny"}, {"dtype": "bfloat16"}),
    "mut_unused": (c.with_unused, {"checkpoint": "tiny"}, {}),
} | {
    f"text_{family}": (
        c.with_tokenizer,
        {"checkpoint": f"ref_{family}", "tokenizer": "smollm2"},
        {},
    )
    for family in (
        "gemma",
        "gemma2",
        "gemma3",
        "mistral",
        "phi",
        "qwen2",
        "qwen3",
        "smollm3",
    )
} | {
    f"text_{name}": (
        c.with_tokenizer,
        {"checkpoint": name, "tokenizer": "smollm2"},
        {},
    )
    for name in ("small_llama3", "small_yarn")
} | {
    "text_mqa": (
        c.with_tokenizer,
        {"checkpoint": "small_mqa", "tokenizer": "smollm2"},
        {},
    ),
    "text_sliding": (
        c.with_tokenizer,
        {"checkpoint": "small_sliding", "tokenizer": "smollm2"},
        {},
    ),
    "mut_lora": (c.with_lora, {"checkpoint": "tiny"}, dict(rank=4)),
    "mut_smollm2_lora": (c.with_lora, {"checkpoint": "smollm2"}, dict(rank=8)),
    "mut_stale_tensor": (
        c.with_fine_tune,
        {"checkpoint": "tiny"},
        dict(names=["layers.2.mlp.down_proj"], size=0.3),
    ),
    "mut_fine_tune": (
        c.with_fine_tune,
        {"checkpoint": "tiny"},
        dict(names=[""], size=0.1),
    ),
    "mut_bos": (c.with_bos, {"checkpoint": "tiny"}, {}),
    "mut_trim": (
        c.with_template,
        {"checkpoint": "tiny"},
        dict(old="message['content']", new="(message['content'] | trim)"),
    ),
    "mut_tools": (
        c.with_template,
        {"checkpoint": "tiny"},
        dict(
            old="{% for message in messages %}",
            new="{% if tools %}Tools: {{ tools | tojson }}\n{% endif %}"
            "{% for message in messages %}",
        ),
    ),
    "mut_fewer_merges": (
        c.with_fewer_merges,
        {"checkpoint": "tiny"},
        dict(count=100),
    ),
    "mut_ignore_merges": (
        c.with_fewer_merges,
        {"checkpoint": "tiny"},
        dict(count=0, ignore_merges=True),
    ),
    "mut_ignore_fewer_merges": (
        c.with_fewer_merges,
        {"checkpoint": "tiny"},
        dict(count=100, ignore_merges=True),
    ),
    "tiny_base_eos": (c.with_eos, {"checkpoint": "tiny"}, dict(eos=0)),
    "mut_own_head": (c.with_own_head, {"checkpoint": "tiny"}, {}),
    "mut_llama3_rope": (
        c.with_config,
        {"checkpoint": "tiny"},
        dict(
            changes={
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": 10000.0,
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 256,
                }
            }
        ),
    ),
}

# Conversions that must pass without a finding, and their checkpoints.
SOUND = (
    [
        (name, "tiny")
        for name in (
            "tiny_f32.tflite",
            "tiny_single.tflite",
            "tiny_prefill_logits.tflite",
            "tiny_mask.tflite",
            "tiny_transposed.tflite",
            "tiny_mask_transposed.tflite",
            "tiny_batch.tflite",
            "tiny_q8.tflite",
            "tiny_gptq_q8.tflite",
            "tiny_hadamard_op.tflite",
            "tiny_oscar_q8.tflite",
            "tiny_folded.tflite",
            "tiny_mse_q8.tflite",
            "tiny_static_a8.tflite",
            "tiny_static_a16.tflite",
            "tiny_kv_float16.tflite",
            "tiny_kv_int8.tflite",
            "tiny_export_hf.tflite",
            "tiny_hf_logits.tflite",
            "tiny_hf_gpu.tflite",
            "tiny_hf_caches.tflite",
            "tiny_hf_hadamard.tflite",
            "tiny_hf_embedder/model.tflite",
            "tiny_hf_embedder_q8/model_quantized.tflite",
            "tiny_hf_q8.tflite",
            "tiny_bundle.litertlm",
            "tiny_bundle_stop_text.litertlm",
        )
    ]
    + [("tiny_base_eos.litertlm", "tiny_base_eos")]
    + [("tiny_wrong_weights.tflite", "tiny_other")]
    + [
        ("small_ring.tflite", "text_sliding"),
        ("small_lora.tflite", "text_mqa"),
    ]
    + [
        (f"small_{kind}{suffix}.tflite", f"text_small_{kind}")
        for kind in ("llama3", "yarn")
        for suffix in ("", "_q8")
    ]
    + [
        (f"ref_{family}.tflite", f"text_{family}")
        for family in (
            "gemma",
            "gemma2",
            "gemma3",
            "mistral",
            "phi",
            "qwen2",
            "qwen3",
            "smollm3",
        )
    ]
    + [("tiny_qat8_recovered.tflite", "tiny_qat8")]
    + [("tiny_f32.tflite", "mut_unused")]
    + [
        (f"smollm2_{recipe}.tflite", "smollm2")
        for recipe in ("f32", "fp16", "q8", "q8_wo")
    ]
)

# Sound as well, but with so few bits for so small a model that much is lost.
LOSSY = [
    ("tiny_q4_block32.tflite", "tiny"),
    ("tiny_q8_embedding_q4.tflite", "tiny"),
    ("tiny_gptq_q4_block32.tflite", "tiny"),
    ("tiny_qat4_recovered.tflite", "tiny_qat4"),
    ("tiny_oscar_q4_block32.tflite", "tiny"),
    ("smollm2_q4_block32.tflite", "smollm2"),
]


def needed() -> set[str]:
  """Names in models/ of all that the suite reads."""
  pairs = [(row.file, row.checkpoint) for row in MUTATIONS] + SOUND
  pairs += LOSSY
  return {file.split("/")[0] for file, _ in pairs} | {c for _, c in pairs}
