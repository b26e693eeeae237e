"""GLM-5.2's reasoning for SGLang's OpenAI server, whole and streamed: the parser `glm45`."""

from __future__ import annotations

from typing import Any

from sglang.srt.parser.reasoning_parser import BaseReasoningFormatDetector, StreamingParseResult

from sglang_glm52.parsers import tags
from sglang_glm52.parsers.scanner import Event, Kind, Scanner

# Tokens that must not stand in reasoning; the host's grammar backend bans them where it constrains that.
_EXCLUDED = [tags.CALL, tags.END_CALL, "<eop>", "<|user|>", "<|endoftext|>"]


class Glm45Detector(BaseReasoningFormatDetector):
    """Reads one output: `detect_and_parse` the whole text, or `parse_streaming_increment` its pieces, then `finish`.

    Both ways give the same reasoning and text. A tool call within the reasoning is passed on as text, tags and all, for
    the tool parser; what is thought after it is still reasoning.

    Args:
        stream_reasoning: pass reasoning on as it comes, not when it has ended.
        force_reasoning: the prompt ends within reasoning.
        continue_final_message: the output goes on from `previous_content`, whose last think tag, if it has one, says
            whether that ends within reasoning.
        force_nonempty_content: if there is neither an answer nor a call, the answer is a copy of the reasoning.
    """

    def __init__(
        self,
        stream_reasoning: bool = True,
        force_reasoning: bool = False,
        continue_final_message: bool = False,
        previous_content: Any = "",
        force_nonempty_content: bool = False,
    ) -> None:
        previous = _text_of(previous_content)
        super().__init__(
            tags.THINK,
            tags.END_THINK,
            think_excluded_tokens=_EXCLUDED,
            force_reasoning=force_reasoning,
            stream_reasoning=stream_reasoning,
            tool_start_token=tags.CALL,
            continue_final_message=continue_final_message,
            previous_content=previous,
            thinks_internally=True,
            reasoning_default="enable_thinking",
        )
        opened, closed = previous.rfind(tags.THINK), previous.rfind(tags.END_THINK)
        if continue_final_message and opened != closed:
            self._in_reasoning = opened > closed
        self._needs_content = force_nonempty_content
        self._stream = self._new_stream()

    def _new_stream(self) -> _Stream:
        return _Stream(self._in_reasoning, self.stream_reasoning, self._needs_content)

    def detect_and_parse(self, text: str) -> StreamingParseResult:
        """The reasoning and the rest of a whole output."""
        stream = self._new_stream()
        first, last = stream.feed(text), stream.finish()
        return StreamingParseResult(
            normal_text=first.normal_text + last.normal_text,
            reasoning_text=first.reasoning_text + last.reasoning_text,
        )

    def parse_streaming_increment(self, new_text: str) -> StreamingParseResult:
        """What is certain by now; of one piece, the reasoning comes before the rest."""
        return self._stream.feed(new_text)

    def finish(self) -> StreamingParseResult:
        """The output has ended: what was held back. Its text still has to go through the tool parser."""
        return self._stream.finish()


class _Stream:
    def __init__(self, is_reasoning: bool, passes_on: bool, needs_content: bool) -> None:
        self._scanner = Scanner.of_reasoning(is_reasoning)
        self._passes_on = passes_on
        self._needs_content = needs_content
        self._held: list[str] = []  # reasoning not passed on yet
        self._copy: list[str] = []  # of the reasoning, as long as there is no content and it may be needed
        self._in_call = False

    def feed(self, text: str) -> StreamingParseResult:
        return self._sort(self._scanner.feed(text), is_last=False)

    def finish(self) -> StreamingParseResult:
        result = self._sort(self._scanner.finish(), is_last=True)
        if self._needs_content:
            result.normal_text += "".join(self._copy)
            self._copy = []
        return result

    def _sort(self, events: list[Event], is_last: bool) -> StreamingParseResult:
        texts: list[str] = []
        for event in events:
            self._in_call = event.kind is Kind.CALL or self._in_call
            if event.kind is Kind.REASONING:
                self._held.append(event.text)
            elif self._in_call:
                # A tag that is missing because the reasoning ended, or another call began, is put in: the tool parser
                # does not see what stood there.
                is_missing = event.kind is Kind.END_CALL and not event.raw and not event.is_cut
                texts.append(tags.END_CALL if is_missing else event.raw)
                self._in_call = event.kind is not Kind.END_CALL
            elif event.kind is Kind.TEXT:
                texts.append(event.text)
        return StreamingParseResult(normal_text=self._content(texts), reasoning_text=self._reasoning(texts, is_last))

    def _content(self, texts: list[str]) -> str:
        content = "".join(texts)
        if self._needs_content and content.strip(tags.SPACES):
            self._needs_content, self._copy = False, []
        return content

    def _reasoning(self, texts: list[str], is_last: bool) -> str:
        if not (self._passes_on or texts or is_last):
            return ""
        reasoning = "".join(self._held)
        self._held = []
        if self._needs_content:
            self._copy.append(reasoning)
        return reasoning


def _text_of(content: Any) -> str:
    """A message's content: nothing, a text, or parts of which some are texts."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = (part.get("text") if isinstance(part, dict) else getattr(part, "text", None) for part in content)
    return "".join(text for text in texts if text)
