"""The architecture as read through the host's own configuration objects."""

from __future__ import annotations

import shutil

import pytest
from published_config import FILE, published
from sglang.srt.utils.hf_transformers.config import get_config
from transformers import AutoConfig

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import ConfigError


@pytest.fixture
def checkpoint(tmp_path):
    shutil.copy(FILE, tmp_path / "config.json")
    return tmp_path


def test_the_hosts_object_holds_the_same_numbers(checkpoint):
    config = get_config(str(checkpoint), trust_remote_code=False)
    assert Glm52Arch.from_config(config.to_dict()) == Glm52Arch.from_config(published())


def test_an_object_with_an_overwritten_rotary_dimension_is_refused(checkpoint):
    """transformers before 5.10 takes `head_dim` for it; the host repairs that after loading, other callers do not."""
    config = AutoConfig.from_pretrained(checkpoint)
    if config.qk_rope_head_dim == 64:
        pytest.skip("this transformers does not overwrite it")
    with pytest.raises(ConfigError, match="a library has overwritten one of them"):
        Glm52Arch.from_config(config.to_dict())
