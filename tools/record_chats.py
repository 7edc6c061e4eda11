#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes testdata/chats.json: what transformers makes of chats.

Each template is rendered for each chat, with the content of messages as text
and as a list of parts. Null is where apply_chat_template raises an error. The
templates are written for this test, in the styles of the field.
"""

import importlib.metadata
import json
import pathlib
from typing import Any

import jinja2
import tokenizers
import transformers

OUT = pathlib.Path(__file__).resolve().parent.parent / "testdata/chats.json"

SYSTEM = {"role": "system", "content": "You answer briefly."}
USER = {"role": "user", "content": "What is AI?"}
ASSISTANT = {"role": "assistant", "content": "A field of computer science."}
MORE = {"role": "user", "content": 'Say "more", please: 1 < 2 & ü.\nThanks!'}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city, today's.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Köln, Łódź"},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                    "days": {"type": "integer", "default": 1},
                    "exact": {"type": "boolean", "default": False},
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time of day.",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "type": "function",
            "id": "call00001",
            "function": {
                "name": "get_weather",
                "arguments": {"city": "Köln", "days": 2, "exact": True},
            },
        }
    ],
}
RESULT = {
    "role": "tool",
    "content": '{"sky": "clear", "degrees": 21}',
    "name": "get_weather",
    "tool_call_id": "call00001",
}
SPACES = "\u3000\n\u00a0text\u00a0 "

CHATS: list[dict[str, Any]] = [
    {"name": "one user turn", "messages": [USER]},
    {"name": "system and user", "messages": [SYSTEM, USER]},
    {"name": "three turns", "messages": [USER, ASSISTANT, MORE]},
    {
        "name": "an empty system turn",
        "messages": [{"role": "system", "content": ""}, USER],
    },
    {
        "name": "blanks and line breaks at the ends of texts",
        "messages": [
            {"role": "system", "content": " You answer briefly.\n"},
            {"role": "user", "content": "\n  What is AI? \t\n\n"},
            {"role": "assistant", "content": "  A field.\n"},
            {"role": "user", "content": " \n"},
        ],
    },
    {
        "name": "spaces that C does not know",
        "messages": [{"role": "user", "content": SPACES}],
    },
    {"name": "a list of tools", "messages": [USER], "tools": TOOLS},
    {
        "name": "a list of tools and a system turn",
        "messages": [SYSTEM, USER],
        "tools": TOOLS,
    },
    {
        "name": "a call of a tool and its result",
        "messages": [SYSTEM, USER, CALL, RESULT],
        "tools": TOOLS,
    },
    {
        "name": "a turn after a call",
        "messages": [USER, CALL, RESULT, ASSISTANT, MORE],
        "tools": TOOLS,
    },
    {
        "name": "a continued assistant turn",
        "messages": [USER, {"role": "assistant", "content": "A field of"}],
        "continues": True,
    },
    {
        "name": "a continued turn with blanks at its ends",
        "messages": [USER, {"role": "assistant", "content": " A field \n"}],
        "continues": True,
    },
    {
        "name": "a continued turn of blanks",
        "messages": [USER, {"role": "assistant", "content": " \n"}],
        "continues": True,
    },
    {
        "name": "a thought",
        "messages": [
            USER,
            {
                "role": "assistant",
                "content": "<think>\nHm, AI.\n</think>\n\nA field.",
            },
            MORE,
        ],
    },
]

# ChatML, with tools in XML tags.
CHATML = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}\
{%- endif %}
{{- "# Tools\\n\\nSignatures are within <tools></tools> tags:\\n<tools>" }}
{%- for tool in tools %}
{{- "\\n" }}{{- tool | tojson }}
{%- endfor %}
{{- "\\n</tools>\\n\\nCall them so:\\n<tool_call>\\n{\\"name\\": <name>, \
\\"arguments\\": <json>}\\n</tool_call><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) \
or (message.role == 'assistant' and not message.tool_calls) %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' \
+ '\\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>' + message.role }}
{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
{%- for call in message.tool_calls %}
{%- if call.function is defined %}{%- set call = call.function %}{%- endif %}
{{- '\\n<tool_call>\\n{"name": "' }}{{- call.name }}{{- '", "arguments": ' }}\
{{- call.arguments | tojson }}{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}
{{- '<|im_start|>user' }}
{%- endif %}
{{- '\\n<tool_response>\\n' }}{{- message.content }}{{- '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

# ChatML that takes thoughts out of turns before the last of the user.
THOUGHTS = """\
{%- set ns = namespace(last=messages | length - 1, found=false) %}
{%- for message in messages[::-1] %}
{%- set index = messages | length - 1 - loop.index0 %}
{%- if not ns.found and message.role == 'user' and message.content is string \
and not message.content.startswith('<tool_response>') %}
{%- set ns.found = true %}{%- set ns.last = index %}
{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- set content = message.content if message.content is string else '' %}
{%- if message.role == 'assistant' and '</think>' in content \
and loop.index0 < ns.last %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>' ~ message.role ~ '\\n' ~ content ~ '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}
"""

# Llama 3: headers, trimmed texts, tools before the text of the first user turn.
LLAMA = """\
{%- macro head(role) %}
{{- '<|start_header_id|>' ~ role ~ '<|end_header_id|>\\n\\n' }}
{%- endmacro %}
{{- bos_token }}
{%- if not today is defined %}{%- set today = "1 May 2025" %}{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set rules = "" %}
{%- set turns = messages %}
{%- if messages[0]['role'] == 'system' %}
{%- set rules = messages[0]['content'] | trim %}
{%- set turns = messages[1:] %}
{%- endif %}
{{- head('system') }}
{%- if tools is not none %}{{- "Tools: on\\n" }}{%- endif %}
{{- "Date: " + today + "\\n\\n" + rules + "<|eot_id|>" }}
{%- if tools is not none %}
{%- if turns | length == 0 %}
{{- raise_exception("tools need a turn of the user") }}
{%- endif %}
{{- head('user') -}}
{{- "You may call these:\\n\\n" }}
{%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
{{- turns[0]['content'] | trim + "<|eot_id|>" }}
{%- set turns = turns[1:] %}
{%- endif %}
{%- for turn in turns %}
{%- if 'tool_calls' in turn %}
{%- if not turn.tool_calls | length == 1 %}
{{- raise_exception("one call at a time") }}
{%- endif %}
{%- set f = turn.tool_calls[0].function %}
{{- head('assistant') -}}
{{- '{"name": "' + f.name + '", ' }}{{- '"parameters": ' }}
{{- f.arguments | tojson }}{{- "}<|eot_id|>" }}
{%- elif turn.role in ('tool', 'ipython') %}
{{- head('ipython') }}
{%- if turn.content is mapping or (turn.content is iterable \
and turn.content is not string) %}
{{- turn.content | tojson }}
{%- else %}
{{- turn.content }}
{%- endif %}
{{- "<|eot_id|>" }}
{%- else %}
{{- head(turn['role']) + turn['content'] | trim + '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- head('assistant') }}{%- endif %}
"""

# Gemma: no system role, turns that alternate.
GEMMA = """\
{{ bos_token }}
{% if messages[0]['role'] == 'system' %}\
{{ raise_exception('no system turn, please') }}{% endif %}
{% for m in messages %}
{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('user and assistant take turns') }}
{% endif %}
{% set who = 'model' if m['role'] == 'assistant' else m['role'] %}
{{ '<start_of_turn>' + who + '\n' + m['content'] | trim + '<end_of_turn>\n' }}
{% endfor %}
{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"""

# Later Gemma: the system's text goes before the user's, content of both forms.
GEMMA_PARTS = """\
{{ bos_token }}
{%- set before = "" -%}
{%- set turns = messages -%}
{%- if messages[0]['role'] == 'system' -%}
    {%- set text = messages[0]['content'] -%}
    {%- set before = (text if text is string else text[0]['text']) + '\n\n' -%}
    {%- set turns = messages[1:] -%}
{%- endif -%}
{%- for m in turns -%}
    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("user and assistant take turns") }}
    {%- endif -%}
    {%- set who = 'model' if m['role'] == 'assistant' else m['role'] -%}
    {{ '<start_of_turn>' + who + '\n' + (before if loop.first else "") }}
    {%- if m['content'] is string -%}
        {{ m['content'] | trim }}
    {%- elif m['content'] is iterable -%}
        {%- for part in m['content'] -%}
            {%- if part['type'] == 'image' -%}
                {{ '<image>' }}
            {%- elif part['type'] == 'text' -%}
                {{ part['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}
"""

# Mistral: the system's text and the tools stand at the last user turn.
MISTRAL = """\
{%- set turns = messages %}
{%- if messages[0]["role"] == "system" %}
    {%- set rules = messages[0]["content"] %}
    {%- set turns = messages[1:] %}
{%- endif %}
{%- set asked = turns | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for turn in turns %}
    {%- if turn["role"] == "user" %}
        {%- if tools is not none and (turn == asked[-1]) %}
            {{- "[AVAILABLE_TOOLS][" }}
            {%- for tool in tools %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, value in tool.function.items() if key != "return" %}
                    {{- '"' + key + '": ' }}
                    {%- if value is string %}
                        {{- '"' + value + '"' }}
                    {%- else %}
                        {{- value | tojson }}
                    {%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {{- "]" if loop.last else ", " }}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {{- "[INST]" }}
        {%- if loop.last and rules is defined %}{{- rules + "\\n\\n" }}\
{%- endif %}
        {{- turn["content"] + "[/INST]" }}
    {%- elif turn.tool_calls is defined and turn.tool_calls is not none %}
        {{- "[TOOL_CALLS][" }}
        {%- for call in turn.tool_calls %}
            {%- if call.id is not defined or call.id | length != 9 %}
                {{- raise_exception("a call's id has nine letters") }}
            {%- endif %}
            {%- set text = call.function | tojson %}
            {{- text[:-1] + ', "id": "' + call.id + '"}' }}
            {{- "]" + eos_token if loop.last else ", " }}
        {%- endfor %}
    {%- elif turn["role"] == "assistant" %}
        {{- turn["content"] + eos_token }}
    {%- elif turn["role"] in ["tool", "tool_results"] %}
        {%- set result = turn.content %}
        {%- if result is defined and result.content is defined %}
            {%- set result = result.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS]{"content": ' + result | string + ", " }}
        {{- '"call_id": "' + turn.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("a role unknown here: " + turn["role"]) }}
    {%- endif %}
{%- endfor %}
"""

# Content is a list of parts.
PARTS = """\
{% for message in messages %}<|{{ message['role'] }}|>
{% for part in message['content'] %}{% if part['type'] == 'text' %}\
{{ part['text'] }}{% elif part['type'] == 'image' %}<image>{% endif %}\
{% endfor %}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% endif %}"""

# Content is the first part's text.
FIRST_PART = """\
{% for message in messages %}
{{ message.role | capitalize }}: {{ message.content[0].text | trim }}</s>
{% endfor %}
{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""

# Phi: tools with the system's text, a list of roles.
PHI = """\
{% for message in messages %}{% if message['role'] == 'system' and tools %}\
{{ '<|system|>' + message['content'] + '<|tool|>' + (tools | tojson) \
+ '<|/tool|><|end|>' }}{% elif message['role'] in ['system', 'user', \
'assistant', 'tool'] %}{{ '<|' + message['role'] + '|>' + message['content'] \
+ '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}\
{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"""

# Tools as text of a macro's, arguments one a line.
MACRO = """\
{% macro signature(f) -%}
{{ f.name }}({% for name, p in f.parameters.properties.items() %}\
{{ name }}: {{ p.type | upper }}{{ ' = ' ~ p.default if p.default is defined }}\
{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}
{{ bos_token }}{% set system = messages | selectattr('role', 'equalto', \
'system') | map(attribute='content') | join('\n') %}
{% if system %}{{ 'System: ' ~ system | trim }}
{% endif %}
{% if tools %}Functions:
{% for tool in tools %}- {{ signature(tool['function']) }}
{% endfor %}{% endif %}
{% for m in messages if m.role != 'system' %}
{% if m.tool_calls %}
{% for call in m.tool_calls %}
Call {{ call['function']['name'] }}:
{% for key, value in call['function']['arguments'] | dictsort %}
  {{ key }} = {{ value | tojson }}
{% endfor %}
{% endfor %}
{% elif m.content %}{{ m.role | title }}: {{ m.content.strip() }}
{% else %}{{ m.role | title }} says nothing
{% endif %}
{% endfor %}
{% if add_generation_prompt %}Assistant:{% endif %}"""

TEMPLATES = {
    "chatml": CHATML,
    "thoughts": THOUGHTS,
    "llama": LLAMA,
    "gemma": GEMMA,
    "gemma_parts": GEMMA_PARTS,
    "mistral": MISTRAL,
    "parts": PARTS,
    "first_part": FIRST_PART,
    "phi": PHI,
    "macro": MACRO,
}


def _parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
  return [
      m | {"content": [{"type": "text", "text": m["content"]}]}
      for m in messages
  ]


def _tokenizer() -> transformers.PreTrainedTokenizerFast:
  model = tokenizers.models.BPE({"<s>": 0, "</s>": 1}, [])
  return transformers.PreTrainedTokenizerFast(
      tokenizer_object=tokenizers.Tokenizer(model),
      bos_token="<s>",
      eos_token="</s>",
  )


def _render(
    tokenizer: Any, template: str, chat: dict[str, Any], parts: bool
) -> Any:
  continues = chat.get("continues", False)
  messages = chat["messages"]
  try:
    return tokenizer.apply_chat_template(
        _parts(messages) if parts else messages,
        tools=chat.get("tools"),
        chat_template=template,
        tokenize=False,
        add_generation_prompt=not continues,
        continue_final_message=continues,
    )
  except (jinja2.TemplateError, TypeError, ValueError):
    return None


def main() -> None:
  tokenizer = _tokenizer()
  rendered = {
      name: [
          {form: _render(tokenizer, template, chat, form == "parts")
           for form in ("text", "parts")}
          for chat in CHATS
      ]
      for name, template in TEMPLATES.items()
  }
  found = {
      "transformers": importlib.metadata.version("transformers"),
      "chats": CHATS,
      "templates": TEMPLATES,
      "rendered": rendered,
  }
  text = json.dumps(found, indent=1, ensure_ascii=False)
  OUT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
  main()
