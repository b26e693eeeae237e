"""KV pools."""
