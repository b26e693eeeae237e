"""Every SGLANG_GLM52_* environment variable: its type, default and meaning.

`python -m sglang_glm52.env` prints them as a table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import Any, TypeVar

from sglang_glm52.errors import ConfigError

PREFIX = "SGLANG_GLM52_"
T = TypeVar("T")


def variable(default: T, parse: Callable[[str], T], accepts: str, meaning: str) -> T:
    """A field of `Settings`, read from SGLANG_GLM52_<FIELD IN CAPITALS>.

    `parse` raises ValueError for a bad value; `accepts` says in words what it takes.
    """
    return field(default=default, metadata={"parse": parse, "accepts": accepts, "meaning": meaning})


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser that takes one of `choices` as it stands."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


def at_least(least: int) -> Callable[[str], int]:
    """A parser of whole numbers from `least` on."""

    def parse(text: str) -> int:
        if (value := int(text)) < least:
            raise ValueError(text)
        return value

    return parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The variables' values in this process. Each field is made with `variable`."""

    activation: str = variable(
        "dynamic",
        one_of("dynamic", "static"),
        "dynamic or static",
        "how the inputs of W4AFP8 experts are scaled to FP8: each token by its own largest value, or all by the "
        "`input_scale` of the checkpoint",
    )
    mtp_index_share: str = variable(
        "auto",
        one_of("auto", "on", "off"),
        "auto, on or off",
        "whether the later steps of a draft round attend to the positions selected at the last accepted token: auto "
        "is what the checkpoint's `index_share_for_mtp_iteration` says",
    )
    spec_rounds: str = variable(
        "ahead",
        one_of("ahead", "host"),
        "ahead or host",
        "rounds of speculation on CUDA: ahead lets the CPU prepare a round while the GPU computes the one before it, "
        "with draft-extend in a CUDA graph; host is SGLang's way, which waits for the GPU and is that of DP attention",
    )
    kv_pool: str = variable(
        "auto",
        one_of("auto", "compact", "host"),
        "auto, compact or host",
        "the KV cache on CUDA: compact, with indexer keys in the layers that have an indexer, holds 13.9 % more tokens "
        "in the same memory (FP8 cache) than host, SGLang's, with keys in every layer; auto is compact unless an "
        "option copies the keys of every layer (docs/memory.md)",
    )
    index_topk: str = variable(
        "exact",
        one_of("exact", "host"),
        "exact or host",
        "the kernel that selects positions where `--dsa-topk-backend` is left at its default: exact is this package's, "
        "host sgl_kernel's, which drops some of the best positions of contexts over 4,096 (docs/memory.md)",
    )
    fp8_linear: str = variable(
        "fused",
        one_of("fused", "host"),
        "fused or host",
        "FP8 linear layers with at most 16 tokens on CUDA: fused is this package's kernel, which rounds the inputs "
        "itself, host SGLang's quantiser and DeepGEMM",
    )
    sparse_attention: str = variable(
        "fused",
        one_of("fused", "host"),
        "fused or host",
        "attention to selected positions on CUDA with an FP8 cache and 4, 8 or 16 heads a GPU: fused is this package's "
        "kernel, host FlashMLA's, which pads to 64 heads",
    )
    decode_prologue: str = variable(
        "fused",
        one_of("fused", "host"),
        "fused or host",
        "between the projections of a decode step, where `sparse_attention` is fused: fused is this package's kernels, "
        "three launches a layer beside attention, host SGLang's nine or ten",
    )
    router: str = variable(
        "fused",
        one_of("fused", "host"),
        "fused or host",
        "router logits and the choice of experts for at most 32 tokens on CUDA: fused is this package's two kernels, "
        "host cuBLAS and SGLang's choice",
    )
    prefill_rows: str = variable(
        "shared",
        one_of("shared", "all"),
        "shared or all",
        "whether each GPU of attention TP selects positions for its share of a long prefill's rows, or every GPU for "
        "all of them, and attends with all heads for those rows (docs/memory.md)",
    )
    logits_mib: int = variable(
        1088,
        at_least(64),
        "a whole number of MiB, 64 or more",
        "GPU memory in which a prefill's indexer scores are computed, a piece at a time (docs/memory.md)",
    )


@cache
def settings() -> Settings:
    """This process's settings, read once; ConfigError names a variable with a bad value or an unknown name."""
    return read(Settings, os.environ)


def given_variables() -> dict[str, str]:
    """This package's variables that are set, as they stand, by name."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(PREFIX)}


def variables(settings_class: type) -> dict[str, Field]:
    """The fields of `settings_class` by the names of their variables."""
    return {PREFIX + f.name.upper(): f for f in fields(settings_class)}


def read(settings_class: type[T], environ: Mapping[str, str]) -> T:
    """Fill `settings_class` from `environ`; an unset variable keeps its default."""
    known = variables(settings_class)
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise ConfigError(f"unknown environment variable {', '.join(unknown)}; known: {', '.join(known) or 'none'}")
    return settings_class(**{f.name: _parse(name, f, environ[name]) for name, f in known.items() if name in environ})


def markdown_table(settings_class: type) -> str:
    """One row a variable, for the documentation."""
    rows = [
        f"| `{name}` | {f.metadata['accepts']} | `{f.default}` | {f.metadata['meaning']} |"
        for name, f in variables(settings_class).items()
    ]
    return "\n".join(["| variable | accepts | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _parse(name: str, f: Field, text: str) -> Any:
    try:
        return f.metadata["parse"](text)
    except ValueError:
        raise ConfigError(f"{name}={text!r}: expected {f.metadata['accepts']}; unset it for {f.default!r}") from None


if __name__ == "__main__":
    print(markdown_table(Settings))
