"""Reads what GLM-5.2 writes: reasoning and tool calls, whole and streamed. docs/parsers.md has the grammar."""
