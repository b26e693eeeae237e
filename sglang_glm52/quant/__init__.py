"""Quantisation methods of GLM-5.2 checkpoints on CUDA; the CPU engine dequantises while it loads."""
