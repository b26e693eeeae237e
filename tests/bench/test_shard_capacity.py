import re

import pytest

from sglang_glm52.bench.shard_capacity import check_fits, weight_gb
from sglang_glm52.bench.shard_config import NUM_LAYERS
from sglang_glm52.errors import CapacityError

H100_GB, H200_GB = 85.0, 150.1


def test_the_experts_make_the_difference_between_the_formats():
    """256 experts of 3 x 6144 x 256 values in 75 layers: a byte each or half, and a bf16 scale per 128 of them."""
    values = 256 * 3 * 6144 * 256 * 75
    difference = values * (1 + 4 / 128**2 - 1 / 2 - 2 / 128) / 1e9
    assert weight_gb("fp8", NUM_LAYERS) - weight_gb("w4afp8", NUM_LAYERS) == pytest.approx(difference)
    assert weight_gb("fp8", NUM_LAYERS) == pytest.approx(values / 1e9, rel=0.06)


def test_both_formats_fit_an_h200_and_one_an_h100():
    for fmt in ("fp8", "w4afp8"):
        check_fits(fmt, NUM_LAYERS, H200_GB)
    check_fits("w4afp8", NUM_LAYERS, H100_GB)


def test_what_does_not_fit_is_refused_with_what_does():
    with pytest.raises(CapacityError, match=r"78 layers in fp8 are 9\d\.\d GB, .* or measure --format w4afp8") as error:
        check_fits("fp8", NUM_LAYERS, H100_GB)
    layers = int(re.search(r"--layers (\d+)", str(error.value)).group(1))
    check_fits("fp8", layers, H100_GB)
    with pytest.raises(CapacityError):
        check_fits("fp8", layers + 1, H100_GB)


def test_a_gpu_too_small_for_any_shard():
    with pytest.raises(CapacityError, match="use a larger GPU"):
        check_fits("w4afp8", 4, gpu_gb=0.5)
