"""GLM-5.2's tool calls for SGLang's OpenAI server, whole and streamed: the parser `glm47`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sglang.srt.entrypoints.openai.protocol import Tool, ToolChoice
from sglang.srt.environ import envs
from sglang.srt.function_call.base_format_detector import BaseFormatDetector
from sglang.srt.function_call.core_types import StreamingParseResult, ToolCallItem, _GetInfoFunc

from sglang_glm52.parsers import tags
from sglang_glm52.parsers.call_log import CallLog, Delta
from sglang_glm52.parsers.open_schemas import open_parameters
from sglang_glm52.parsers.scanner import Event, Kind, Scanner


class Glm47Detector(BaseFormatDetector):
    """Reads one output: `detect_and_parse` the whole text, or `parse_streaming_increment` its pieces, then `finish`.

    Both ways give the same text and calls. A call's index is its place among the calls of the output.
    """

    def __init__(self) -> None:
        self._scanner, self._log = Scanner.of_calls(), CallLog()
        super().__init__()
        self.bot_token, self.eot_token = tags.CALL, tags.END_CALL

    def has_tool_call(self, text: str) -> bool:
        """Whether a call stands in the text, of whichever tool; the words `<tool_call>` alone are none."""
        scanner = Scanner.of_calls()
        return any(event.kind is Kind.CALL for event in [*scanner.feed(text), *scanner.finish()])

    def detect_and_parse(self, text: str, tools: list[Tool]) -> StreamingParseResult:
        """The text around the calls, and each call with all of its arguments."""
        scanner, log = Scanner.of_calls(), CallLog()
        delta = log.add([*scanner.feed(text), *scanner.finish()], _Schemas(tools))
        calls = [
            ToolCallItem(tool_index=index, name=call.name, parameters=call.streamed)
            for index, call in enumerate(log.calls)
        ]
        return StreamingParseResult(normal_text=delta.text + log.end(), calls=calls)

    def parse_streaming_increment(self, new_text: str, tools: list[Tool]) -> StreamingParseResult:
        """What is certain by now: text, names (each once, whole, before its arguments) and pieces of arguments."""
        return _result(self._add(self._scanner.feed(new_text), tools))

    def finish(self, tools: list[Tool]) -> StreamingParseResult:
        """The output has ended: text that was held back, and what makes the arguments of a cut call valid JSON."""
        delta = self._add(self._scanner.finish(), tools)
        delta.text += self._log.end()
        return _result(delta)

    def _add(self, events: list[Event], tools: list[Tool]) -> Delta:
        delta = self._log.add(events, _Schemas(tools))
        self.current_tool_id = len(self._log.calls) - 1
        self.current_tool_name_sent = self._log.open_call is not None
        return delta

    # The server reads the next two when a stream ends, to add arguments that were not sent. The base class keeps them
    # as attributes and resets them when constructed; made on demand, they cost a stream nothing.

    @property
    def prev_tool_call_arr(self) -> list[dict[str, Any]]:
        """Name and arguments of each call; of an open one as they would be were the output to end here."""
        return [{"name": call.name, "arguments": call.arguments()} for call in self._log.calls]

    @prev_tool_call_arr.setter
    def prev_tool_call_arr(self, value: list[dict[str, Any]]) -> None:
        _check_reset(value)

    @property
    def streamed_args_for_tool(self) -> list[str]:
        """The JSON sent so far for each call."""
        return [call.streamed for call in self._log.calls]

    @streamed_args_for_tool.setter
    def streamed_args_for_tool(self, value: list[str]) -> None:
        _check_reset(value)

    def supports_structural_tag(self) -> bool:
        """True: a call that the server demands is written in this format, not as a JSON array."""
        return True

    def get_structural_tag_name(self) -> str:
        """xgrammar's name for this format."""
        return "glm_4_7"

    def get_structural_tag(
        self,
        tools: list[Tool] | None = None,
        tool_choice: ToolChoice | Literal["auto", "required"] = "auto",
        thinking_mode: bool = False,
    ) -> Any:
        """The grammar of the output, as the base class makes it, but a demanded call must meet its tool's schema.

        xgrammar enforces the schema of a tool marked strict alone. Demanded calls otherwise come as a JSON array whose
        schema is enforced without the mark, so the mark must not decide here either.
        """
        is_demanded = tool_choice == "required" or isinstance(tool_choice, ToolChoice)
        tools = [_for_grammar(tool, is_strict=is_demanded or tool.function.strict) for tool in tools or []]
        return super().get_structural_tag(tools=tools, tool_choice=tool_choice, thinking_mode=thinking_mode)

    def structure_info(self) -> _GetInfoFunc:
        """Of formats with JSON arguments only.

        Raises:
            NotImplementedError: always; this format needs `get_structural_tag`, and so xgrammar.
        """
        raise NotImplementedError("GLM-5.2's calls hold no JSON object; constrain them with --grammar-backend xgrammar")


class _Schemas:
    """Calling it with a tool's name gives its schema; KeyError for an unknown one that must not be called."""

    def __init__(self, tools: list[Tool]) -> None:
        self._tools = tools

    def __call__(self, name: str) -> Mapping[str, Any] | None:
        for tool in self._tools:
            if tool.function.name == name:
                return tool.function.parameters
        if envs.SGLANG_FORWARD_UNKNOWN_TOOLS.get():
            return None
        raise KeyError(name)


def _for_grammar(tool: Tool, *, is_strict: bool) -> Tool:
    update = {"strict": is_strict, "parameters": open_parameters(tool.function.parameters)}
    return tool.model_copy(update={"function": tool.function.model_copy(update=update)})


def _result(delta: Delta) -> StreamingParseResult:
    calls = [ToolCallItem(tool_index=index, name=name, parameters=json) for index, name, json in delta.calls]
    return StreamingParseResult(normal_text=delta.text, calls=calls)


def _check_reset(value: list) -> None:
    assert not value, f"{value!r}: derived from the calls, not stored"
