"""How the flow that compresses in several ways calls its steps, not what they find."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flows import compress_and_evaluate as module
from tasks.compress import CompressSpec
from tasks.evaluate import EvaluateSpec

EVALUATION = EvaluateSpec.model_construct(model="model")
COMPRESSIONS = {name: CompressSpec.model_construct(model=name) for name in "abcd"}


async def run() -> Any:
    return await module.compress_and_evaluate.fn(COMPRESSIONS, EVALUATION)


async def test_no_more_steps_run_side_by_side_than_the_settings_allow(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("LABWRIGHT_MAX_PARALLEL_STEPS", "2")
    running, most = 0, 0

    async def step(*_: object, **__: object) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        raise ValueError("enough")

    monkeypatch.setattr(module, "evaluate", step)
    monkeypatch.setattr(module, "compress", step)
    with pytest.raises(ValueError, match="enough"):
        await run()
    assert most == 2


async def test_the_first_failure_ends_the_other_steps_and_is_what_is_raised(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("LABWRIGHT_MAX_PARALLEL_STEPS", "8")
    ended: list[str] = []

    async def evaluate(*_: object, **__: object) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("evaluate")

    async def compress(spec: CompressSpec, *_: object) -> None:
        if spec.model == "c":
            raise ValueError("c cannot be compressed")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(str(spec.model))

    monkeypatch.setattr(module, "evaluate", evaluate)
    monkeypatch.setattr(module, "compress", compress)
    with pytest.raises(ValueError, match="c cannot be compressed"):
        await run()
    assert {"evaluate", "a", "b"} <= set(ended)
