"""The document of the format shows code, commands and what they print: all of it is run here."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from import_graph import ROOT
from published_config import published

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.formats.int4_group import GROUP
from sglang_glm52.models.weights import SCALE_SUFFIX, scale_shape
from sglang_glm52.quantize.published_form import all_shapes, is_converted

DOCUMENT = ROOT / "docs/w4afp8_format.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(text: str) -> list[tuple[list[str], str]]:
    """(arguments of Python, what it must print), for each Python block and each `$ python ...` of a document."""
    found, code = [], None
    for language, body in _BLOCK.findall(text):
        if code is not None:
            assert language == "text", f"a python block needs its output in a text block after it, found {language}"
            found.append((["-c", code], body))
            code = None
        elif language == "python":
            code = body
        elif language == "console":
            command, output = body.split("\n", 1)
            assert command.startswith("$ python "), command
            found.append((command.split()[2:], output))
    assert code is None, "the last python block has no output after it"
    return found


def printed(arguments: list[str]) -> str:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


EXAMPLES = examples(DOCUMENT.read_text())


def test_the_document_has_its_examples():
    assert [arguments[0] for arguments, _ in EXAMPLES] == ["-c", "-c", "-m"]


@pytest.mark.parametrize("arguments, output", EXAMPLES, ids=["example", "size", "error"])
def test_what_the_document_shows_is_what_is_printed(arguments, output):
    assert printed(arguments) == output, f"{DOCUMENT} is stale: paste what {arguments} prints"


def test_an_edit_of_code_or_output_is_noticed():
    text = "```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n"
    [(arguments, output)] = examples(text)
    assert printed(arguments) == output
    for edited in (text.replace("1 + 1", "1 + 2"), text.replace("\n2\n", "\n3\n")):
        [(arguments, output)] = examples(edited)
        assert printed(arguments) != output


@pytest.mark.parametrize("text", ["```python\nprint()\n```\n", "```python\nprint()\n```\n\n```json\n{}\n```\n"])
def test_code_without_its_output_is_noticed(text):
    with pytest.raises(AssertionError, match="output"):
        examples(text)


def stored_shapes() -> dict[str, tuple[tuple[int, ...], int]]:
    """Tensor of the checkpoint -> shape and bytes a value, with bf16 group scales and without input scales."""
    stored = {}
    for name, shape in all_shapes(Glm52Arch.from_config(published())).items():
        if ".mlp.experts." in name:
            stored[name] = (shape[0], shape[1] // 2), 1
            stored[name + SCALE_SUFFIX] = (shape[0], shape[1] // GROUP), 2
        elif is_converted(name, shape):
            stored[name], stored[name + SCALE_SUFFIX] = (shape, 1), (scale_shape(shape), 4)
        else:
            stored[name] = shape, 4 if name.endswith("e_score_correction_bias") else 2
    return stored


def told_shapes(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(end of a tensor's name, shape) for each in the tables; `a`, `b` / `c` have the shapes [1] / [2]."""
    for cells in (line.split(" | ") for line in text.splitlines() if line.startswith("| `")):
        shapes = [json.loads(shape) for cell in cells for shape in re.findall(r"\[.*?\]", cell.split(" for ")[0])]
        for names, shape in zip(cells[0].split(" / "), shapes, strict=False):
            yield from ((name, tuple(shape)) for name in re.findall("`(.*?)`", names))


def test_the_size_is_that_of_every_tensor_of_the_model():
    total = sum(math.prod(shape) * width for shape, width in stored_shapes().values())
    assert f" {total:,} bytes" in DOCUMENT.read_text()


def test_the_tables_hold_every_tensor_with_its_shape():
    """An FP8 weight stands there without `.weight`, its scales not at all: the text says what shape they have."""
    text = DOCUMENT.read_text().partition("## Tensors")[2].partition("## An int4 matrix")[0]
    told = {
        name if name.endswith((".weight", "_scale_inv", "bias")) else f"{name}.weight": shape
        for name, shape in told_shapes(text)
    }
    left = set(told)
    for name, (shape, _) in stored_shapes().items():
        if name.endswith(SCALE_SUFFIX) and ".mlp.experts." not in name:
            continue
        found = [end for end in told if f".{name}".endswith(f".{end}") and told[end] == shape]
        assert found, f"{name} {shape} is not in the tables"
        left -= set(found)
    assert not left, "no tensor of the model"
