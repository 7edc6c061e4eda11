#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes testdata/litert_lm_templates.json: what LiteRT-LM makes of templates.

Each is rendered for one user message. Null is where LiteRT-LM gives up.
"""

import importlib.metadata
import json
import pathlib

import litert_lm
import work

OUT = (
    pathlib.Path(__file__).resolve().parent.parent
    / "testdata/litert_lm_templates.json"
)
MESSAGE = "Hi, you."

LOOP = "{% for m in messages %}<{{ m.role }}>"
END = "{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
PART = "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}"
TEMPLATES = [
    LOOP + "{{ m.content }}" + END,
    LOOP + "{{ m['content'] + '</s>' }}" + END,
    LOOP + "{{ '<s>' + m['content'] }}" + END,
    LOOP + "{{ '<s>' ~ m['content'] }}" + END,
    LOOP + PART + "{% endif %}{% endfor %}" + END,
    LOOP + "{% if m.content is string %}{{ m.content }}{% else %}" + PART
    + "{% endif %}{% endfor %}{% endif %}" + END,
    LOOP + "{{ m.content[0].text }}" + END,
    LOOP + "{{ m.content[0]['text'] | trim }}" + END,
    LOOP + "{% if m.content is string %}text{% endif %}"
    + "{% if m.content is sequence %}list{% endif %}" + END,
    LOOP + "{{ m.content | length }}" + END,
    "{{ bos_token }}|{{ eos_token }}|" + LOOP + END,
]


def main() -> None:
  model = work.cache_dir() / "models/tiny_export_hf.litertlm"
  engine = litert_lm.Engine(str(model))
  cases = []
  for template in TEMPLATES:
    conversation = engine.create_conversation(chat_template=template)
    text = conversation.render_message_to_string(MESSAGE)
    cases.append({"template": template, "rendered": text or None})
  found = {
      "litert_lm_api": importlib.metadata.version("litert-lm-api"),
      "message": MESSAGE,
      "cases": cases,
  }
  OUT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
