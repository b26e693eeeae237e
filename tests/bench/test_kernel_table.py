import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglang_glm52.bench.kernel_table import KernelRow, merge, short_name, tabulate, total_launches, total_ms

TRACE = json.loads((Path(__file__).parent / "data" / "two_steps.trace.json").read_text())


def test_rows_are_per_step_and_longest_first():
    assert tabulate(TRACE, steps=2) == (
        KernelRow("fused_moe_kernel", 2.0, pytest.approx(0.040)),
        KernelRow("Memcpy DtoD (Device -> Device)", 1.0, pytest.approx(0.0015)),
        KernelRow("Memset (Device)", 0.5, pytest.approx(0.0005)),
    )


def test_annotations_and_host_calls_are_no_kernels():
    """The annotation alone lasts longer than all kernels, the launch on the host longer still."""
    assert total_ms(tabulate(TRACE, steps=1)) == pytest.approx(0.084)
    assert total_launches(tabulate(TRACE, steps=1)) == 7


def test_a_trace_without_device_work_is_an_error():
    host_only = {"traceEvents": [event for event in TRACE["traceEvents"] if event.get("cat") == "cuda_runtime"]}
    with pytest.raises(ValueError, match="no kernel"):
        tabulate(host_only, steps=1)


rows = st.lists(st.builds(KernelRow, st.sampled_from("abcd"), st.floats(0, 100), st.floats(0, 100)), max_size=12)


@given(rows)
def test_merging_keeps_the_sums(found):
    merged = merge(found, lambda name: "ab" if name in "ab" else name).values()
    assert total_ms(merged) == pytest.approx(total_ms(found))
    assert total_launches(merged) == pytest.approx(total_launches(found))
    assert [row.ms for row in merged] == sorted((row.ms for row in merged), reverse=True)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("fused_moe_kernel", "fused_moe_kernel"),
        ("Memcpy DtoD (Device -> Device)", "Memcpy DtoD"),
        (
            "void deep_gemm::sm90_fp8_gemm_1d2d_impl<(cute::UMMA::Major)0, 0u, 2624u, 6144u>(float*, int*, unsigned)",
            "deep_gemm::sm90_fp8_gemm_1d2d_impl",
        ),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>, std::array<char*, 1ul> >"
            "(int, at::native::FillFunctor<float>, std::array<char*, 1ul>)",
            "at::native::vectorized_elementwise_kernel[FillFunctor]",
        ),
        (
            "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<"
            "at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)::{lambda()#3}> >(int, long)",
            "at::native::elementwise_kernel[direct_copy_kernel_cuda]",
        ),
        (
            "void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cutlass::gemm::GroupProblemShape<int> > >"
            "(Params)",
            "cutlass::device_kernel[GemmUniversal]",
        ),
    ],
)
def test_short_names(name, short):
    assert short_name(name) == short
