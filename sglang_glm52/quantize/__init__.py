"""From the FP8 or BF16 checkpoint of GLM-5.2 to W4AFP8: int4 routed experts, all else as in the FP8 checkpoint."""
