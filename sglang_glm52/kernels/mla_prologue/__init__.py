"""What a layer does between its projections and its attention, for a few tokens."""

from sglang_glm52.kernels.mla_prologue.kernel import absorbed_query, index_prologue, mla_prologue, mla_query

__all__ = ["absorbed_query", "index_prologue", "mla_prologue", "mla_query"]
