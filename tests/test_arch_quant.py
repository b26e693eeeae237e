from __future__ import annotations

import pytest
from published_config import published

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.arch_quant import QuantSection
from sglang_glm52.errors import ConfigError

FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
W4AFP8 = {"quant_method": "w4afp8", "group_size": 128}


def test_the_published_section():
    section = Glm52Arch.from_config(published()).quant
    assert (section.method, section.weight_block_size, section.group_size) == ("fp8", (128, 128), None)
    assert section.activation_scheme == "dynamic"
    assert "lm_head" in section.modules_to_not_convert


def test_w4afp8_has_groups():
    section = QuantSection.from_config(W4AFP8 | {"ignored_layers": ["lm_head"]})
    assert (section.method, section.group_size, section.weight_block_size) == ("w4afp8", 128, (128, 128))
    assert section.modules_to_not_convert == ("lm_head",)
    assert QuantSection.from_config({"quant_method": "w4afp8"}).group_size == 128


def test_no_section_means_not_quantised():
    assert QuantSection.from_config(None) is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "quant_method = None; supported: 'fp8', 'w4afp8'"),
        (FP8 | {"quant_method": "awq"}, "quant_method = 'awq'"),
        (FP8 | {"weight_block_size": [64, 128]}, r"weight_block_size = \[64, 128\]; supported: \[128, 128\]"),
        (FP8 | {"activation_scheme": "guess"}, "activation_scheme = 'guess'; supported: 'dynamic', 'static'"),
        (W4AFP8 | {"group_size": 32}, "group_size = 32; supported: 128"),
    ],
)
def test_other_forms_are_refused(section, message):
    with pytest.raises(ConfigError, match=message):
        QuantSection.from_config(section)
