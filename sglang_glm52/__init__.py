"""GLM-5.2 for SGLang."""

__version__ = "0.1.0"
