import pytest
import torch
from torch import nn

from sglang_glm52.bench import shard_weights
from sglang_glm52.bench.shard_weights import fill_weights
from sglang_glm52.errors import ConfigError
from sglang_glm52.formats.fp8_block import dequantize_fp8_block

FP8 = torch.float8_e4m3fn


def parameter(*shape: int, dtype: torch.dtype = torch.bfloat16) -> nn.Parameter:
    """Poisoned: bytes that are NaN in every floating type, so that an element that is not written shows."""
    size = torch.empty(shape, dtype=dtype).nbytes
    return nn.Parameter(torch.full((size,), 0x7F, dtype=torch.uint8).view(dtype).view(shape), requires_grad=False)


class Module(nn.Module):
    def __init__(self, **params: nn.Parameter) -> None:
        super().__init__()
        for name, param in params.items():
            setattr(self, name, param)


def fp8_linear(out: int, inner: int) -> Module:
    blocks = (-(-out // 128), -(-inner // 128))
    return Module(weight=parameter(out, inner, dtype=FP8), weight_scale_inv=parameter(*blocks, dtype=torch.float32))


@pytest.fixture(autouse=True)
def small_pool(monkeypatch):
    """A pool shorter than the test's weights, so that it has to be repeated."""
    monkeypatch.setattr(shard_weights, "POOL_SIZE", 50_021)


def test_an_fp8_projection_keeps_its_inputs_variance():
    layer = fp8_linear(320, 384)
    fill_weights(layer, seed=1)
    weight = dequantize_fp8_block(layer.weight, layer.weight_scale_inv)
    assert weight.isfinite().all()
    assert (torch.randn(64, 384) @ weight.T).std().item() == pytest.approx(1.0, rel=0.05)
    assert (weight == 0).float().mean() < 0.01


def test_int4_experts_keep_their_inputs_variance():
    experts = Module(
        w13_weight=parameter(4, 256, 192, dtype=torch.int8),
        w13_weight_scale_inv=parameter(4, 3, 256),
        w13_input_scale=parameter(1, dtype=torch.float32),
    )
    fill_weights(experts, seed=1)
    packed = experts.w13_weight.view(torch.uint8)
    nibbles = torch.stack([packed & 0xF, packed >> 4]).long()
    values = torch.where(nibbles < 8, nibbles, nibbles - 16).float()
    counts = torch.bincount(values.long().flatten() + 8, minlength=16)
    assert counts[0] == 0 and counts[1:].min() > 0.9 * counts[1:].float().mean()
    assert abs(values.mean()) < 0.01 * values.std()  # else all tokens become alike
    scale = experts.w13_weight_scale_inv.float().unique().item()
    assert (values.std() * scale).item() == pytest.approx(384**-0.5, rel=0.02)
    assert experts.w13_input_scale.item() * 448 == pytest.approx(8.96)


def test_unquantised_parameters_by_what_they_are():
    model = nn.ModuleDict(
        {
            "embed_tokens": Module(weight=parameter(512, 256)),
            "input_layernorm": Module(weight=parameter(4096)),
            "k_norm": Module(weight=parameter(4096, dtype=torch.float32), bias=parameter(4096, dtype=torch.float32)),
            "gate": Module(weight=parameter(256, 512), e_score_correction_bias=parameter(256, dtype=torch.float32)),
        }
    )
    fill_weights(model, seed=1)
    assert all(param.isfinite().all() for param in model.parameters())
    assert model["embed_tokens"].weight.float().std().item() == pytest.approx(1.0, rel=0.02)
    assert model["input_layernorm"].weight.float().mean().item() == pytest.approx(1.0, rel=0.02)
    assert model["k_norm"].weight.std().item() == pytest.approx(0.1, rel=0.1)
    assert model["k_norm"].bias.mean().item() == pytest.approx(0.0, abs=0.01)
    assert model["gate"].weight.float().std().item() == pytest.approx(512**-0.5, rel=0.02)
    assert model["gate"].e_score_correction_bias.abs().max() == 0


def test_scales_of_the_kv_cache_stay_one():
    """FP8 checkpoints give each attention two of them, which scale no weight."""
    attention = Module(k_scale=parameter(1, dtype=torch.float32), v_scale=parameter(1, dtype=torch.float32))
    fill_weights(attention, seed=1)
    assert attention.k_scale.item() == attention.v_scale.item() == 1.0


def filled(name: str, seed: int, **extra: nn.Module) -> bytes:
    model = nn.ModuleDict({**extra, name: fp8_linear(320, 384)})
    fill_weights(model, seed)
    return model[name].weight.view(torch.uint8).numpy().tobytes()


def test_values_depend_on_name_and_seed_alone():
    """Two model classes hold other modules beside it and in another order; the weight must not change."""
    assert filled("o_proj", 1) == filled("o_proj", 1, q_proj=fp8_linear(128, 128))
    assert filled("o_proj", 1) != filled("o_proj", 2)
    assert filled("o_proj", 1) != filled("q_b_proj", 1)


def test_a_scale_whose_weight_is_unknown_is_refused():
    with pytest.raises(ConfigError, match=r"packed_weight_scale_inv: no parameter packed_weight "):
        fill_weights(Module(packed_weight_scale_inv=parameter(4, 4)), seed=1)
