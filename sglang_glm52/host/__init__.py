"""The only folder that knows private names of SGLang."""
