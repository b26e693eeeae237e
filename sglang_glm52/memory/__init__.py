"""KV pools, and the memory that a prefill's indexer scores take."""
