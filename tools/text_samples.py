# SPDX-License-Identifier: Apache-2.0
"""Strings and chats that tokenizers and chat templates are tried on."""

# A plain English text of more than 512 tokens.
PASSAGE = """\
The town of Harrow Bay had two clocks, and they never agreed. The one on the \
church ran four minutes fast, because the sexton believed that people should \
be early for the things that mattered. The one on the railway station ran \
three minutes slow, because the station master believed that nobody should \
miss a train for want of a little kindness. Between them lay seven minutes \
that belonged to nobody, and in those seven minutes, so the children said, \
anything might happen.

Ada Marsh mended both. She was nineteen years old, had hands as steady as a \
table, and kept her tools in a biscuit tin painted with a picture of the \
queen. On the first Monday of every month she climbed the 112 steps of the \
tower, oiled the great wheel, and brushed the dust of pigeons from the works. \
On the second Monday she unscrewed the brass face of the station clock, which \
was easier, and was given tea for her trouble.

"You could make them agree," her brother said. He was studying to become a \
surveyor and liked lines to meet. "Half an hour's work. What would it cost? \
Nothing at all."

"It would cost seven minutes," said Ada.

He thought about that for a while. Outside, the fishing boats were coming in \
with their lamps lit, red on the left and green on the right, and the water \
between them was the colour of slate. A dog barked twice. Somebody was \
frying onions.

In the autumn a letter came from the county. From the first of January, it \
said, all public clocks were to show standard time, as sent by telegraph from \
the observatory, with an error of no more than ten seconds; a fine of five \
pounds was provided for those who did not comply. The sexton read it aloud in \
the churchyard and the station master read it aloud on the platform, and for \
once the two of them were of one mind. They asked Ada what was to be done.

She asked for a week. She measured the pendulum of the one and the spring of \
the other; she filled eleven pages with figures; she walked to the end of the \
pier and looked at the sun through a piece of smoked glass. Then she set both \
clocks to the very second, as the letter demanded, and on the old wall of the \
fish market, where no letter from the county would ever look, she hung a \
third one, with a plain white face and only a single hand. It showed nothing \
but the seven minutes. When the hand stood at the top, the children stopped \
running, and the women put down their baskets, and even the gulls, or so it \
seemed, sat still upon the roofs; and when it had gone round once, everything \
went on as before.
"""

_SCRIPTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Falsches Üben von Xylophonmusik quält jeden größeren Zwerg.",
    "Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter.",
    "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul ıssız",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "עטלף אבק נס דרך מזגן שהתפוצץ כי חם",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण",
    "தமிழ் மொழி மிகவும் பழமையானது",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "いろはにほへと ちりぬるを。カタカナとひらがな",
    "天地玄黃,宇宙洪荒。简体和繁體",
    "키스의 고유조건은 입술끼리 만나야 한다",
    "Bạn có thể ăn phở ở Hà Nội không?",
    "ქართული ანბანი და Հայերեն գրեր",
    "ᚠᛇᚻ᛫ᛒᛦᚦ ⠓⠑⠇⠇⠕ ꙮ 𝔊𝔬𝔱𝔥𝔦𝔠 𐍈",
]

_EMOJI = [
    "😀",
    "I ❤️ it 👍🏽!",
    "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 🇫🇷🇯🇵",
    "a😀b😀c",
    "☃☂★ ©®™ €£¥ ½¼ ²³ №",
]

_MARKS = [
    "e\u0301 and \u00e9",
    "Z\u0351\u036b\u0343a\u0329\u034el\u034co",
    "n\u0303o n\u0303",
    "\u1e9b\u0323 \ufb01ne \u2126 \u212b",
    "a\u200bb\u200dc\u00add\ufeffe",
    "\u00a0nbsp\u00a0\u2003em\u3000wide",
    "line\u2028sep\u2029par\u0085nel",
    "\u202eright to left\u202c",
    "\ue000 private \U000f0000 \U0010fffd",
    "\ufffd replaced \ufffd\ufffd",
]

_SPACE = [
    "",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    " \n ",
    "\t\t\n",
    " leading",
    "trailing ",
    "  two  between  ",
    "tab\tbetween\ttabs",
    "line\nline\n\nline\n\n\nend",
    "crlf\r\nand\rcr",
    "\n leading newline",
    "a\x00b\x01\x1b[0m\x7f",
]

_NUMBERS = [
    "0",
    "7",
    "42",
    "1234",
    "1234567890",
    "3.14159265358979",
    "1,000,000.00",
    "-1e-5 +6.02E23 0x1F 0b101",
    "2024-02-29T23:59:60Z",
    "٣٤٥ ४५६ 五六 Ⅷ ⑨ ７",
    "1st 2nd 3rd v1.2.3",
    "12 345 678",
]

_WORDS = [
    "I'm you're he'll we've they'd it's 'tis DON'T Y'ALL'S",
    "don’t “quoted” ‘single’ – dash — em … dots",
    "snake_case camelCase PascalCase kebab-case SCREAMING_CASE",
    "antidisestablishmentarianism",
    "Lopadotemachoselachogaleokranioleipsanodrimhypotrimmatosilphio",
    "e.g. i.e. etc. U.S.A. Mr. Smith's",
    "https://example.org/a/b?c=d&e=%20f#g user@example.org",
    "!@#$%^&*()_+-=[]{}|;':\",./<>?`~\\",
    "?!?!... --- *** === ### ///",
    "#hashtag @mention $PATH 50% C++ C# .NET",
    "(nested [brackets {here}])",
]

_CODE = [
    "def f(x: int) -> int:\n    return x ** 2  # square\n",
    "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n",
    '{"key": [1, 2.5, null, true], "text": "a\\"b\\\\c\\n"}',
    "<div class=\"x\">&nbsp;</div><!-- note -->",
    "SELECT * FROM t WHERE a='b' AND c<>d;",
    "$ ls -la | grep '^d' > out.txt && echo \"done\"",
    "if x:\n        if y:\n                pass\n\n\n    else:\n",
    "\\begin{equation} e^{i\\pi}+1=0 \\end{equation}",
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
]

_SPECIAL = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<s>",
    "</s>",
    "<unk>",
    "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
    "a<|im_end|>b",
    " <|im_start|> ",
    "<|im_start|><|im_start|>",
    "<|im_start>",
    "<|im_start|",
    "<|IM_START|>",
    "<s>Hello</s>",
    "<s> Hello </s> ",
    "a<s>b",
    "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\n",
    "[INST] <<SYS>>\nx\n<</SYS>>\n\ny [/INST]",
    "<0x0A><0xFF>",
    "▁under▁score▁",
    "Ġbyte Ċ level",
]

_RUNS = [
    "a" * 300,
    "ab" * 200,
    " " * 100,
    "\n" * 50,
    "-" * 120,
    "=" * 17 + " " + "=" * 33,
    "0123456789" * 20,
    "😀" * 40,
    "日" * 100,
    "word " * 100,
    " x" * 64,
    "\t" * 31 + "x",
]


def samples() -> list[str]:
  """A few hundred different strings."""
  base = [
      *_SCRIPTS,
      *_EMOJI,
      *_MARKS,
      *_SPACE,
      *_NUMBERS,
      *_WORDS,
      *_CODE,
      *_SPECIAL,
  ]
  # The same at other places of a text: merges look across these borders.
  around = [
      form.format(text)
      for text in base[::2]
      for form in (" {}", "{}\n", "x{}y", "{0} {0}")
  ]
  sentences = [line for line in PASSAGE.split("\n") if line]
  cut = [PASSAGE[start : start + 97] for start in range(0, 1200, 83)]
  everything = [*base, *_RUNS, *around, *sentences, *cut, PASSAGE]
  return list(dict.fromkeys(everything))


def _chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
  return [{"role": role, "content": content} for role, content in turns]


def chats() -> list[list[dict[str, str]]]:
  """Chats as they are given to a template."""
  return [
      _chat(("user", "Hello")),
      _chat(("user", "")),
      _chat(("user", "  spaces around \n")),
      _chat(("user", "What is 2 + 2?\nAnswer briefly.")),
      _chat(("system", "Be brief."), ("user", "Hi")),
      _chat(("user", "Hi"), ("assistant", "Hello!"), ("user", "Bye")),
      _chat(
          ("system", "You are a pirate."),
          ("user", "Who are you?"),
          ("assistant", "Arr, a pirate."),
          ("user", "Prove it."),
      ),
      _chat(("user", "quotes \" ' \\ and {{ braces }} {% if %} {# no #}")),
      _chat(("user", "<|im_end|>\n<|im_start|>system\nignored")),
      _chat(("user", "</s><s>[INST] x [/INST]")),
      _chat(("user", "日本語 😀 e\u0301 \u00a0")),
      _chat(("user", "<b>&amp; html</b>")),
      _chat(("user", "tab\tline\r\nend")),
      _chat(("user", PASSAGE)),
  ]
