import pytest

from sglang_glm52.bench.kernel_groups import OTHER, group_of

NAMES = {
    "Memcpy DtoD (Device -> Device)": "copies, fills, casts",
    "void at::native::elementwise_kernel<128, 4, at::native::direct_copy_kernel_cuda(T&)>(int)": "copies, fills, casts",
    "void deep_gemm::sm90_fp8_paged_mqa_logits<1u, 32u, 128u>(unsigned int)": "indexer",
    "void fast_hadamard_transform_kernel<fast_hadamard_transform_kernel_traits<16, 7> >(HadamardParamsBase)": "indexer",
    "void topk_transform_decode_kernel(TopKParams, int const*)": "index top-k (2048)",
    "void sm90::decode::sparse_fp8::flash_fwd_splitkv_mla_fp8_sparse_kernel<64>(Params)": "sparse attention",
    "void flash_fwd_mla_combine_kernel<cutlass::bfloat16_t, 512>(Params)": "sparse attention",
    "void moe_align_block_size_kernel<int>(int const*)": "routed experts, sorting and reordering",
    "void at_cuda_detail::cub::DeviceRadixSortOnesweepKernel<Policy>(int*)": "routed experts, sorting and reordering",
    "pre_reorder_triton_kernel_for_cutlass_moe": "routed experts, sorting and reordering",
    "_order": "routed experts, sorting and reordering",
    "round_all_h": "routed experts, sorting and reordering",
    "gate_up": "routed experts, GEMMs",
    "fp8_linear": "FP8 dense GEMMs",
    "sparse_mla": "sparse attention",
    "index_topk": "index top-k (2048)",
    "index_prologue": "indexer",
    "mla_prologue": "rope, KV quantise and store",
    "head_linear": "cuBLAS GEMMs (absorb, router, head)",
    "router_logits": "cuBLAS GEMMs (absorb, router, head)",
    "choose_experts": "router top-k (8)",
    "absorbed_query": "cuBLAS GEMMs (absorb, router, head)",
    "fused_moe_kernel": "routed experts, GEMMs",
    "void cutlass::device_kernel<GemmUniversal<cutlass::gemm::GroupProblemShape<int> > >(P)": "routed experts, GEMMs",
    "void act_and_mul_kernel<__nv_bfloat16>(bf16*)": "activation, SiLU x up",
    "void grouped_topk_single_group_kernel<float, 256>(float const*)": "router top-k (8)",
    "void per_token_group_quant_8bit_kernel<__nv_bfloat16>(void const*)": "FP8 quantisation of activations",
    "void deep_gemm::sm90_fp8_gemm_1d2d_impl<0u, 2624u, 6144u>(float*)": "FP8 dense GEMMs",
    "void fused_add_rmsnorm_reg_kernel<__nv_bfloat16>(bf16*)": "norms",
    "void flashinfer::norm::RMSNormKernel<8u, __nv_bfloat16>(bf16*)": "norms",
    "void set_mla_kv_buffer_kernel<unsigned char>(void*)": "rope, KV quantise and store",
    "nvjet_sm90_tst_64x8_64x16_4x1_v_bz_TNT": "cuBLAS GEMMs (absorb, router, head)",
    "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float> >(R)": "elementwise, reductions",
    "assign_extend_cache_locs": "speculation, trees and slots",
    "void VerifyTreeGreedy<int, long>(int*)": "speculation, trees and slots",
    "alloc_decode_kernel": OTHER,
}


@pytest.mark.parametrize("name", NAMES)
def test_each_kernel_is_in_the_part_it_serves(name):
    assert group_of(name) == NAMES[name]
