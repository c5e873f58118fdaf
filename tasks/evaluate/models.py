"""lm-eval's view of a model: loaded by transformers in this process, or served by vLLM.

Both get one change: lm-eval scores long documents one by one (over HTTP) or in batches of unsorted
windows (in process); here the windows of all documents go through together, sorted by length, which
gives the same sums.

    with open_model(spec, Path("model"), Path("server.log")) as model:
        watch(model, tasks, lambda done, total: print(done, total))
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from tasks.evaluate.options import Backend, Dtype
from tasks.evaluate.spec import EvaluateSpec
from tasks.serving import ServerOptions, vllm_server
from tasks.serving.options import ServerDtype
from tasks.spec import DeviceKind

DEFAULT_BATCH_SIZE = 8  # sequences
DEFAULT_NUM_CONCURRENT = 16  # requests
REQUEST_TIMEOUT_S = 1800
NUM_ATTEMPTS = 3  # of one request; a server that dies fails the step soon
REPORT_INTERVAL_S = 0.5


@contextlib.contextmanager
def open_model(spec: EvaluateSpec, folder: Path, server_log: Path) -> Iterator[Any]:
    """The model as the spec's backend has it; a server is started and stopped around the block."""
    if spec.backend is Backend.HF:
        yield load_model(spec, folder)
        return
    length = spec.max_length or num_positions(folder)
    options = (spec.server or ServerOptions()).model_copy(
        update={"max_model_len": length, "dtype": ServerDtype(spec.dtype.value)}
    )
    with vllm_server(folder, options, server_log) as server:
        url = f"{server.base_url}/completions"
        yield served_model(spec, folder, url, server.model, server.api_key)


def load_model(spec: EvaluateSpec, folder: Path) -> Any:
    """The model in this process, on the device that the spec names."""
    device = "cuda" if spec.device_kind is DeviceKind.CUDA else "cpu"
    softmax_dtype = spec.softmax_dtype or Dtype.FLOAT32
    model = HFLM(
        pretrained=str(folder),
        device=device,
        dtype=spec.dtype.value,
        softmax_dtype=None if softmax_dtype is Dtype.AUTO else softmax_dtype.value,
        batch_size=spec.batch_size or DEFAULT_BATCH_SIZE,
        max_length=spec.max_length,
        add_bos_token=spec.add_bos_token,
        enable_thinking=False if spec.disable_thinking else None,
        trust_remote_code=False,
        use_safetensors=True,
    )
    model.loglikelihood_rolling = functools.partial(_rolling, model, model.max_length)
    return model


def served_model(
    spec: EvaluateSpec, folder: Path, completions_url: str, name: str, api_key: str
) -> Any:
    """The model behind an OpenAI-compatible completions endpoint.

    Requests are token ids, made by the same code as in process, so that both backends score the
    same tokens; lm-eval's own client would leave out the BOS token and chat template options.
    """
    model = LocalCompletionsAPI(
        base_url=completions_url,
        header={"Authorization": f"Bearer {api_key}"},
        model=name,
        tokenizer=str(folder),
        tokenizer_backend="huggingface",
        num_concurrent=spec.num_concurrent or DEFAULT_NUM_CONCURRENT,
        max_length=spec.max_length or num_positions(folder),
        seed=spec.seeds.torch,
        max_retries=NUM_ATTEMPTS,
        timeout=REQUEST_TIMEOUT_S,
    )
    model.add_bos_token = spec.add_bos_token
    model.chat_template_args = {"enable_thinking": False} if spec.disable_thinking else {}
    model.tok_encode = functools.partial(_encode, model)
    model.apply_chat_template = functools.partial(HFLM.apply_chat_template, model)
    # The prompt, its prefix token and one generated token must fit.
    model.loglikelihood_rolling = functools.partial(_rolling, model, model.max_length - 1)
    return model


def _encode(model: Any, text: Any, add_special_tokens: bool | None = None, **_: Any) -> Any:
    """Token ids of one text or, for prompts to continue, of a sequence of texts."""
    if isinstance(text, str):
        return HFLM.tok_encode(model, text, add_special_tokens=add_special_tokens)
    return [HFLM.tok_encode(model, one) for one in text]


def num_positions(folder: Path) -> int:
    """Longest sequence that the model's config allows; ValueError where it does not say."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part in (config, config.get("text_config", {})):
        if "max_position_embeddings" in part:
            return int(part["max_position_embeddings"])
    raise ValueError("config.json has no max_position_embeddings: give max_length")


def refuse_unfit(spec: EvaluateSpec, folder: Path) -> None:
    """ValueError where the model cannot do what the spec asks; reads its files' headers only."""
    if spec.max_length and spec.max_length > num_positions(folder):
        raise ValueError(
            f"max_length is {spec.max_length}, but the model has {num_positions(folder)} positions"
        )
    if spec.apply_chat_template and not _has_chat_template(folder):
        raise ValueError("apply_chat_template is set, but the model's tokenizer has no template")


def _has_chat_template(folder: Path) -> bool:
    settings = folder / "tokenizer_config.json"
    return (folder / "chat_template.jinja").is_file() or (
        settings.is_file() and "chat_template" in json.loads(settings.read_text(encoding="utf-8"))
    )


def watch(model: Any, tasks: Iterable[Any], report: Callable[[int, int], None]) -> None:
    """Report requests done and in all, at most twice a second, through lm-eval's cache hook."""
    model.set_cache_hook(_Progress(list(tasks), report))


class _Progress:
    """What lm-eval calls a cache hook: it is told every answer as it comes in."""

    def __init__(self, tasks: Sequence[Any], report: Callable[[int, int], None]):
        self._tasks = tasks
        self._report = report
        self._num_extra = 0
        self._num_done = 0
        self._reported_at = 0.0

    @functools.cached_property
    def _num_requests(self) -> int:
        """Requests of all tasks; lm-eval builds them all before it asks for the first answer."""
        return sum(instance.repeats for task in self._tasks for instance in task.instances)

    def expect(self, num_extra: int) -> None:
        """Documents turned out to be more windows than documents."""
        self._num_extra += num_extra

    def add_partial(self, _method: str, _request: Any, _answer: Any) -> None:
        self._num_done += 1
        num_all = self._num_requests + self._num_extra
        now = time.monotonic()
        if now - self._reported_at >= REPORT_INTERVAL_S or self._num_done == num_all:
            self._reported_at = now
            self._report(self._num_done, num_all)


def _rolling(
    model: Any, window_tokens: int, requests: Sequence[Any], disable_tqdm: bool = False
) -> list[float]:
    """Log-likelihood in nats of each document, each of its tokens scored once.

    Windows are lm-eval's own: disjoint, of at most `window_tokens` scored tokens, the first of a
    document conditioned on the prefix token and every later one on the token before it.
    """
    windows: list[tuple[Any, list[int], list[int]]] = []
    owners: list[int] = []
    for index, request in enumerate(requests):
        (text,) = request.args
        for window in get_rolling_token_windows(
            token_list=model.tok_encode(text),
            prefix_token=model.prefix_token_id,
            max_seq_len=window_tokens,
            context_len=1,
        ):
            context, continuation = make_disjoint_window(window)
            windows.append((("", ""), context, continuation))
            owners.append(index)
    if isinstance(model.cache_hook, _Progress):
        model.cache_hook.expect(len(windows) - len(requests))
    sums = [0.0] * len(requests)
    answers = model._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm)
    for owner, (nats, _is_greedy) in zip(owners, answers, strict=True):
        sums[owner] += nats
    return sums
