#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what readers of the documents rely on: links resolve, files that are
named exist, the README is short, and no sentence is too long to read."""

import pathlib
import re
import unittest

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_README = _ROOT / "README.md"
_README_LINES = 110
_README_COLUMNS = 120
_SENTENCE_WORDS = 60

# [text](target), not in code; images alike.
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`]*`")
# A file of this repository, named in code.
_PATH = re.compile(r"`((?:docs|examples|src|testdata|tools)/[\w./-]+)`")
_FENCE = re.compile(r"^\s*(```|~~~)")
_HEADING = re.compile(r"^#{1,6} +(.*)$")
# A line that begins something new: a list entry or a heading.
_BEGINNING = re.compile(r"^\s*([-*+] |\d+\. |#)")
# What ends a sentence, with quotes or brackets that close after it.
_END = re.compile(r"(?<=[.!?])[\"')*\]]*\s+")


def documents() -> list[pathlib.Path]:
  pages = sorted((_ROOT / "docs").glob("**/*.md"))
  return [_README, _ROOT / "tools" / "README.md", *pages]


def prose(text: str) -> list[str]:
  """Returns the lines, those of code blocks emptied."""
  lines = []
  fenced = False
  for line in text.splitlines():
    fence = _FENCE.match(line) is not None
    code = fenced or fence or line.startswith("    ")
    fenced ^= fence
    lines.append("" if code else line)
  return lines


def links(text: str) -> list[str]:
  joined = _CODE.sub("", "\n".join(prose(text)))
  return [target for target in _LINK.findall(joined) if "://" not in target]


def anchors(text: str) -> set[str]:
  """Returns the names that GitHub gives the headings."""
  found: dict[str, int] = {}
  names = set()
  for line in prose(text):
    heading = _HEADING.match(line)
    if heading is None:
      continue
    title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
    name = re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-")
    count = found.get(name, 0)
    found[name] = count + 1
    names.add(f"{name}-{count}" if count else name)
  return names


def sentences(text: str) -> list[str]:
  """Returns the sentences outside tables and code."""
  paragraphs: list[list[str]] = [[]]
  for line in prose(text):
    table = line.lstrip().startswith("|")
    if table or not line.strip():
      paragraphs.append([])
    elif _BEGINNING.match(line):
      paragraphs.append([line])
    else:
      paragraphs[-1].append(line)
  found = []
  for paragraph in paragraphs:
    words = _LINK.sub("link", _CODE.sub("code", " ".join(paragraph)))
    found += [part for part in _END.split(words) if part.strip()]
  return found


def broken_links(page: pathlib.Path) -> list[str]:
  broken = []
  for link in links(page.read_text()):
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.is_relative_to(_ROOT) or not target.exists():
      broken.append(link)
    elif anchor and anchor not in anchors(target.read_text()):
      broken.append(link)
  return broken


class DocumentsTest(unittest.TestCase):

  def test_every_link_and_anchor_resolves(self) -> None:
    for page in documents():
      with self.subTest(page=page.name):
        self.assertEqual(broken_links(page), [])

  def test_every_file_that_is_named_exists(self) -> None:
    for page in documents():
      with self.subTest(page=page.name):
        named = _PATH.findall(page.read_text())
        self.assertEqual([p for p in named if not (_ROOT / p).exists()], [])

  def test_no_page_names_a_home_directory(self) -> None:
    for page in documents():
      with self.subTest(page=page.name):
        self.assertEqual(re.findall(r"(?<!\w)/(?:root|home)/\S+", page.read_text()), [])

  def test_no_sentence_is_longer_than_sixty_words(self) -> None:
    for page in documents():
      with self.subTest(page=page.name):
        long = [s for s in sentences(page.read_text())
                if len(s.split()) > _SENTENCE_WORDS]
        self.assertEqual(long, [])

  def test_usage_has_every_flag(self) -> None:
    sources = [_ROOT / "src" / "cli" / name
               for name in ("flags.cc", "report_files.cc")]
    accepted = set()
    for source in sources:
      accepted |= set(re.findall(r'[({]"(--[a-z_]+)"', source.read_text()))
    usage = (_ROOT / "docs" / "usage.md").read_text()
    table = "\n".join(re.findall(r"^\| `--.*?\|", usage, re.MULTILINE))
    explained = set(re.findall(r"`(--[a-z_]+)`", table))
    # The command line adds these itself.
    self.assertEqual(explained, accepted | {"--help", "--version"})

  def test_the_map_has_every_page(self) -> None:
    index = _ROOT / "docs" / "README.md"
    mapped = {(index.parent / link.partition("#")[0]).resolve()
              for link in links(index.read_text())}
    for page in documents():
      if page != index:
        self.assertIn(page, mapped)

  def test_the_readme_is_short(self) -> None:
    lines = _README.read_text().splitlines()
    self.assertLessEqual(len(lines), _README_LINES)
    self.assertEqual([line for line in lines if len(line) > _README_COLUMNS], [])


class ParsingTest(unittest.TestCase):

  def test_links_in_code_are_none(self) -> None:
    text = "[a](b.md#c)\n```\n[d](e)\n```\n`[f](g)` [h](https://i)\n    [j](k)\n"
    self.assertEqual(links(text), ["b.md#c"])

  def test_anchors_are_those_of_github(self) -> None:
    text = "# A `b_c` and (D)\n## The limits\n## The limits\n```\n# no\n```\n"
    self.assertEqual(
        anchors(text), {"a-b_c-and-d", "the-limits", "the-limits-1"})

  def test_sentences_end_at_stops_lists_and_tables(self) -> None:
    text = "One `a. b` two.\nThree\n- four\n- five\n| six |\nseven? eight\n"
    self.assertEqual(
        sentences(text),
        ["One code two.", "Three", "- four", "- five", "seven?", "eight"])


if __name__ == "__main__":
  unittest.main()
