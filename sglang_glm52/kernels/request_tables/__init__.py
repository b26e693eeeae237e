"""Where the keys of each row of a batch lie, for attention and indexer, made on the device alone."""

from sglang_glm52.kernels.request_tables.kernel import request_tables

__all__ = ["request_tables"]
