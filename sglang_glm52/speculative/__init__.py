"""Speculation with chains of draft tokens: in plain torch for the CPU engine, which lacks the host's kernels, and on
CUDA what rounds that are prepared ahead need beside the attention backends.
"""
