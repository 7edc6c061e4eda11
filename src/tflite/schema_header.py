#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a C++ header with the numbers of TFLite's schema: fields of tables,
values of enumerations, and the builtin operators with their names.

They are read from schema_py_generated.py, which flatc made of the schema and
which the ai-edge-litert package holds.

Usage: schema_header.py SCHEMA_PY_GENERATED HEADER
"""
import re
import sys
from collections.abc import Iterator
from pathlib import Path


def camel_case(name: str) -> str:
    """FULLY_CONNECTED -> FullyConnected; other names stay as they are."""
    if name != name.upper():
        return name
    return "".join(word.capitalize() for word in name.split("_"))


Numbers = dict[str, dict[str, int]]


def read_enums(text: str) -> Numbers:
    """Returns {enum: {name: number}}."""
    values = r"((?:    \w+ = -?\d+\n)+)"
    return {enum: {name: int(number) for name, number
                   in re.findall(r"(\w+) = (-?\d+)", body)}
            for enum, body in re.findall(r"^class (\w+)\(object\):\n" + values, text, re.M)}


def read_tables(text: str) -> Numbers:
    """Returns {table: {field: number}}."""
    tables: Numbers = {}
    table = ""
    for function, slot in re.findall(
            r"^def (\w+)\(builder.*\):\n    builder\.\w+\((\d+)", text, re.M):
        if function.endswith("Start"):
            table = function.removesuffix("Start")
            tables[table] = {}
        elif table and function.startswith(table + "Add"):
            tables[table][function.removeprefix(table + "Add")] = int(slot)
    return tables


def structs(groups: Numbers, number_type: str) -> Iterator[str]:
    for name, members in groups.items():
        if not members:
            continue
        yield f"struct {name} {{"
        for member, number in members.items():
            yield f"  static constexpr {number_type} k{camel_case(member)} = {number};"
        yield "};"


def header(text: str) -> str:
    enums = read_enums(text)
    tables = read_tables(text)
    operators = enums["BuiltinOperator"]
    lines = ["// Made by src/tflite/schema_header.py.", "#pragma once",
             "#include <cstddef>", "#include <cstdint>", "#include <string_view>",
             "#include <utility>", "namespace verify_tflite::tflite {", "namespace schema {"]
    lines += structs(tables, "size_t")
    lines += structs({name: enum for name, enum in enums.items() if name != "BuiltinOperator"},
                     "int")
    lines.append("}  // namespace schema")
    for name, number in operators.items():
        lines.append(f"inline constexpr int32_t kOp{camel_case(name)} = {number};")
    lines.append("inline constexpr std::pair<int32_t, std::string_view> kOperatorNames[] = {")
    lines += (f'    {{{number}, "{name}"}},' for name, number in operators.items())
    lines += ["};", "}  // namespace verify_tflite::tflite", ""]
    return "\n".join(lines)


def main() -> None:
    schema, target = map(Path, sys.argv[1:])
    if not schema.is_file():
        sys.exit(f"{schema}: there is no such file. The ai-edge-litert package holds it: "
                 "run tools/setup.sh")
    try:
        text = header(schema.read_text())
    except KeyError as missing:
        sys.exit(f"{schema}: has no {missing}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


if __name__ == "__main__":
    main()
