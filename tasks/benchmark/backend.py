"""guidellm's HTTP backend, reading event streams line by line as their standard says.

A line of a stream of server-sent events ends with CR, LF or both. httpx, and so guidellm's own
backend, also ends lines at U+0085, U+2028 and every other boundary that Unicode knows; a model that
says one of these, as a small or a quantized one does, breaks the JSON that carries its own words,
and a good answer is counted as an error.

Importing this module registers the backend, which must be done before `guidellm.benchmark` builds
its schemas; workers import it with the backend that they are sent.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncIterator
from typing import Any, Literal

from guidellm.backends import Backend
from guidellm.backends.openai.http import OpenAIHTTPBackend
from guidellm.schemas.backends import BackendArgs, OpenAIHTTPBackendArgs

KIND = "openai_event_stream"
LINE = re.compile(r"([^\r\n]*)(?:\r\n|\n|\r(?!\Z))")  # a CR at the very end may be half a CR LF


async def event_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The lines of a UTF-8 stream, wherever its chunks were cut; ends at LF, CR LF or CR."""
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    rest = ""
    async for chunk in chunks:
        rest += decode(chunk)
        end = 0
        for match in LINE.finditer(rest):
            yield match[1]
            end = match.end()
        rest = rest[end:]
    rest += decode(b"", True)
    if rest:
        yield rest.removesuffix("\r")


@BackendArgs.register(KIND)
class EventStreamArgs(OpenAIHTTPBackendArgs):  # type: ignore[misc]  # guidellm is untyped
    kind: Literal["openai_event_stream"] = "openai_event_stream"


@Backend.register(KIND)
class EventStreamBackend(OpenAIHTTPBackend):  # type: ignore[misc]  # guidellm is untyped
    async def _aiter_lines(self, stream: Any) -> AsyncIterator[str]:
        async for line in event_lines(stream.aiter_bytes()):
            if line.strip():
                yield line
