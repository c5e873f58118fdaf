"""One question to an OpenAI-compatible endpoint, whose answer may be late, wrong, huge or absent.

    endpoint = endpoint_of(settings())         # None where none is set up
    text = asyncio.run(endpoint.ask(messages)) # or NoAnswer, with the reason in words

The key goes into one header of one request, redirects are not followed, and no reason holds it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.analysis.facts import printable
from tasks.scrubbing import Scrubber, own_secrets
from tasks.settings import Settings

if TYPE_CHECKING:
    import httpx

MAX_ANSWER_BYTES = 1 << 20
MAX_ANSWER_TOKENS = 1200
MAX_TEXT_CHARACTERS = 8000
THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)


class NoAnswer(Exception):
    """Why there is no text, in words without secrets."""


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, which model, with which key, and how long to wait in seconds."""

    base_url: str
    model: str
    timeout_s: float
    api_key: str | None = field(default=None, repr=False)

    async def ask(self, messages: Sequence[dict[str, str]]) -> str:
        """The text of the answer, without thoughts and control characters; `NoAnswer` if none."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return self._scrubbed(_text_in(await self._post(messages)))
        except TimeoutError:
            words = f"{self.base_url} gave no answer in {self.timeout_s:g} s"
            raise NoAnswer(self._scrubbed(words)) from None

    async def _post(self, messages: Sequence[dict[str, str]]) -> bytes:
        import httpx

        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        body = {
            "model": self.model,
            "messages": list(messages),
            "temperature": 0,
            "seed": 0,
            "max_tokens": MAX_ANSWER_TOKENS,
        }
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        try:
            async with (
                httpx.AsyncClient(timeout=self.timeout_s, follow_redirects=False) as client,
                client.stream("POST", url, json=body, headers=headers) as response,
            ):
                if response.status_code != 200:
                    raise NoAnswer(self._scrubbed(f"{url} answered {response.status_code}"))
                return await _limited(response)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            # ValueError: a key or a URL that no header or request can hold.
            why = f"{type(error).__name__}: {error}".rstrip(": ")
            raise NoAnswer(self._scrubbed(f"{url} cannot be asked: {why}")) from None

    def _scrubbed(self, text: str) -> str:
        return Scrubber(own_secrets({"API_KEY": self.api_key or ""})).text(text)


def endpoint_of(found: Settings) -> Endpoint | None:
    """The endpoint that is set up; `NoAnswer` where it is set up by half."""
    if found.llm_base_url is None:
        return None
    if found.llm_model is None:
        raise NoAnswer("LABWRIGHT_LLM_BASE_URL is set and LABWRIGHT_LLM_MODEL is not: set both")
    key = found.llm_api_key.get_secret_value() if found.llm_api_key else None
    return Endpoint(found.llm_base_url, found.llm_model, found.llm_timeout_s, key)


async def _limited(response: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise NoAnswer(f"the answer is longer than {MAX_ANSWER_BYTES:,} bytes")
    return bytes(content)


def _text_in(content: bytes) -> str:
    """What a chat completion says; `NoAnswer` where it is none, or says nothing."""
    try:
        text = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        raise NoAnswer("the answer is no chat completion") from None
    if not isinstance(text, str):
        raise NoAnswer("the answer holds no text")
    plain = printable(THOUGHTS.sub("", text)).strip()
    if not plain:
        raise NoAnswer("the answer is empty")
    return plain[:MAX_TEXT_CHARACTERS]
