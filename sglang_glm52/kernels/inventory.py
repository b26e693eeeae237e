"""KERNELS: the one table of operations, data only. Tests walk it, and docs/kernels.md is made from it.

Each operation is a folder with `kernel.py` (its public function), `ref.py` (the same in plain torch), `cases.py` (what
test and bench share) and `bench.py` (its bytes and flops), and has tests/kernels/test_<name>.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Implementation:
    """One way to compute an operation; takes what its public function takes."""

    function: str  # module:name below the operation's folder
    language: str
    use: str  # where it is the faster one
    gpus: str
    tests: str  # path below tests/


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One operation."""

    name: str  # of the folder and of the public function
    computes: str
    implementations: tuple[Implementation, ...]
    choice: str  # what picks one of them
    bound: str  # how far a result may lie from the reference's
    bench: str  # the command that times it


KERNELS = (
    Kernel(
        name="fp8_linear",
        computes="A linear layer with FP8 blocks of weights for 1 to 16 tokens: round each token's groups of 128 "
        "inputs to FP8, multiply, scale, sum. One launch.",
        implementations=(
            Implementation(
                function="fused:fp8_linear_fused",
                language="CUDA C++, compiled when first used",
                use="decode steps and verification of few tokens",
                gpus="sm_90a (H100, H200, H20)",
                tests="kernels/test_fp8_linear.py",
            ),
        ),
        choice="There is one, for at most 16 tokens; SGLANG_GLM52_FP8_LINEAR=host leaves them to SGLang. Its sizes "
        "come from a model of its time in `tuning.py`.",
        bound="Equal arguments give equal bits. Against the reference sums in another order, and the last bit of a "
        "quotient, as between the reference and the host's quantiser.",
        bench="glm52 bench linear",
    ),
    Kernel(
        name="head_linear",
        computes="A linear layer of its own for each head, bf16: what attention found in latents, "
        "to values. One launch.",
        implementations=(
            Implementation(
                function="fused:head_linear_fused",
                language="CUDA C++, compiled when first used",
                use="decode steps, verification and draft-extend, where `mla_prologue` is used",
                gpus="sm_90a (H100, H200, H20)",
                tests="kernels/test_head_linear.py",
            ),
        ),
        choice="There is one, for at most 16 tokens; more are cuBLAS's, all with SGLANG_GLM52_DECODE_PROLOGUE=host.",
        bound="Equal arguments give equal bits, and a token's results do not depend on the others. Against the "
        "reference float32 sums in another order, rounded to bf16.",
        bench="glm52 bench values",
    ),
    Kernel(
        name="int4_experts",
        computes="The routed experts of one layer on one rank: quantise each token to FP8, gate and up projection, "
        "SiLU, quantise again, down projection, sum by router weight. int4 weights with a bf16 scale for each 128 "
        "inputs, in the checkpoint's byte order; activations scaled token by token, or by two static scales.",
        implementations=(
            Implementation(
                function="decode:int4_experts_decode",
                language="CUDA C++, compiled when first used",
                use="few tokens: bound by reading weights",
                gpus="sm_90a (H100, H200, H20)",
                tests="kernels/test_experts_decode.py",
            ),
            Implementation(
                function="grouped:int4_experts_grouped",
                language="Triton, and from 1,024 tokens on CUDA C++ for gate and up",
                use="many tokens: bound by tensor cores",
                gpus="sm_90a (H100, H200, H20)",
                tests="kernels/test_experts_grouped.py",
            ),
        ),
        choice="The number of tokens, by device and expert width: `table.py`, of which `glm52 bench moe --tune` prints "
        "an entry.",
        bound="Equal arguments give equal bits. Against the reference only sums in another order differ, and what they "
        "move across a rounding edge of FP8; the tests derive their bounds.",
        bench="glm52 bench moe",
    ),
    Kernel(
        name="mla_prologue",
        computes="What a layer does between its projections and attention: norms, rotary parts, the FP8 slot of the "
        "KV pool; queries for attention; an indexer's FP8 queries, head weights and keys. Two launches a layer, and "
        "one more on a layer with an indexer.",
        implementations=(
            Implementation(
                function="fused:mla_prologue_fused",
                language="CUDA C++, compiled when first used",
                use="decode steps, verification and draft-extend on a rank of 4, 8 or 16 heads with an FP8 cache",
                gpus="sm_90a (H100, H200, H20)",
                tests="kernels/test_mla_prologue.py",
            ),
        ),
        choice="There is one, used where `sparse_mla` attends. SGLANG_GLM52_DECODE_PROLOGUE=host leaves it to SGLang's "
        "eight to nine kernels.",
        bound="SGLang's results to the bit, but for sums of the absorbed query in another order; against the reference "
        "neighbours in bf16 and e4m3, where float32 sums differ.",
        bench="glm52 bench prologue",
    ),
    Kernel(
        name="router",
        computes="The router of a mixture of experts: logits in float32, and the experts of largest sigmoid score plus "
        "correction bias, weighed by the score. Two launches.",
        implementations=(
            Implementation(
                function="fused:router_fused",
                language="CUDA C++, compiled when first used",
                use="decode steps and verification of at most 32 tokens",
                gpus="sm_90a (H100, H200, H20)",
                tests="kernels/test_router.py",
            ),
        ),
        choice="There is one, for at most 32 tokens; SGLANG_GLM52_ROUTER=host leaves them to cuBLAS and SGLang.",
        bound="Equal arguments give equal bits, and a token's results do not depend on the others. Logits are float32 "
        "sums in another order than the reference's; of equal scores the first expert is chosen, as by the host.",
        bench="glm52 bench router",
    ),
    Kernel(
        name="sparse_mla",
        computes="Sparse latent attention of one rank with 4, 8 or 16 heads: softmax over the slots that each token "
        "selected of an FP8 latent cache. One launch, whatever the number of tokens.",
        implementations=(
            Implementation(
                function="fused:sparse_mla_fused",
                language="CUDA C++, compiled when first used",
                use="decode steps, verification, draft passes and prefills",
                gpus="sm_90a (H100, H200, H20)",
                tests="kernels/test_sparse_mla.py",
            ),
        ),
        choice="There is one; its sizes follow from the numbers of tokens and heads, `tuning.py`. "
        "SGLANG_GLM52_SPARSE_ATTENTION=host leaves attention to FlashMLA.",
        bound="Equal arguments give equal bits. Of a float64 result a row is off by its rounding to bf16, 2.3e-3 of "
        "its norm.",
        bench="glm52 bench attention",
    ),
    Kernel(
        name="int4_quantize",
        computes="One slab of a weight to int4 groups, for `glm52 quantize` on a GPU: dequantise FP8 blocks, try every "
        "scale of every method on each 128 inputs, round and pack with the chosen one, and sum up what each method "
        "loses.",
        implementations=(
            Implementation(
                function="fused:int4_quantize_fused",
                language="Triton",
                use="every slab",
                gpus="sm_80 and later",
                tests="kernels/test_int4_quantize.py",
            ),
        ),
        choice="There is one; a CPU takes the reference.",
        bound="Equal arguments give equal bits, and the reference's bytes except where two scales are equally good: "
        "which one is taken then depends on the order of a float32 sum.",
        bench="glm52 bench quantize",
    ),
    Kernel(
        name="index_topk",
        computes="The best positions of each row of indexer scores, 2,048 for GLM-5.2, in ascending order; as "
        "positions, as slots of a page table, or as rows of the batch's contexts.",
        implementations=(
            Implementation(
                function="clusters:index_topk_clusters",
                language="CUDA C++, compiled when first used",
                use="a row is shared by 1 to 16 multiprocessors of a cluster, by its length and the number of rows",
                gpus="sm_90a (H100, H200, H20)",
                tests="kernels/test_index_topk.py",
            ),
        ),
        choice="There is one; `--dsa-topk-backend torch` and SGLANG_GLM52_INDEX_TOPK=host select with others.",
        bound="The reference's positions, of equal scores the first ones; equal arguments give equal bits.",
        bench="glm52 bench topk",
    ),
    Kernel(
        name="request_tables",
        computes="Lengths, slots and pages of each row of a verify, draft-extend or draft pass, from lengths on the "
        "device, so that a CUDA graph can begin with them.",
        implementations=(
            Implementation(
                function="fused:request_tables_fused",
                language="Triton",
                use="every pass of a round of speculation",
                gpus="sm_80 and later",
                tests="kernels/test_request_tables.py",
            ),
        ),
        choice="There is one.",
        bound="The reference's numbers; nothing else is written.",
        bench="glm52 bench tables",
    ),
)
