"""lm-eval, asked to do what an EvaluateSpec says, and to complain before the model is loaded.

    loaded = load_tasks(spec, Path("tasks"))            # the working folder holds the data
    results = run(spec, model, loaded)

Uses `lm_eval.evaluate` rather than `simple_evaluate`, which overrides a task's few-shot setting or
ignores the user's with a log line, and spends seconds on collecting the environment.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
from jinja2 import Environment
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment
from lm_eval import utils as lm_eval_utils
from lm_eval.api import metrics, registry
from lm_eval.api import task as lm_eval_task
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from lm_eval.utils import set_torch_seed

from tasks.errors import nearest
from tasks.evaluate.group_spec import leaves, shots
from tasks.evaluate.options import Generation
from tasks.evaluate.scores import Aggregation, EvaluatedTask
from tasks.evaluate.spec import RUNS_CODE, EvaluateSpec, metric_label
from tasks.evaluate.task_folder import names_elsewhere, problems_of, read_task_files

CUTS_SENTENCES = {"ifeval", "leaderboard_ifeval"}  # would fetch what they lack, unasked
SENTENCES = Path("nltk_data/tokenizers/punkt_tab")  # in the working folder
HARNESS_FOLDER = Path(lm_eval.__file__).parent

Loaded = dict[str, Any]  # lm-eval's TaskDict: "tasks" and "groups" by name

_AGGREGATIONS = {
    metrics.mean: Aggregation.MEAN,
    metrics.bits_per_byte: Aggregation.BITS_PER_BYTE,
    metrics.weighted_perplexity: Aggregation.WEIGHTED_PERPLEXITY,
}


def confine_templates(*, allow_code: bool) -> None:
    """Give the templates of tasks data to look at and nothing that runs, unless that is allowed.

    lm-eval renders `doc_to_text` and its like in a plain Jinja environment, in which a template
    reaches any Python function by way of an object's attributes: YAML that passes for data would
    run code. All of lm-eval renders by way of this one module variable.
    """
    kind = Environment if allow_code else SandboxedEnvironment
    plain = lm_eval_utils.env
    lm_eval_utils.env = kind(
        loader=plain.loader,
        undefined=plain.undefined,
        keep_trailing_newline=plain.keep_trailing_newline,
    )
    lm_eval_utils.env.filters.update(plain.filters)


def confine_metrics(*, allow_code: bool) -> None:
    """Give tasks the metrics that are lm-eval's own, unless code is allowed.

    For any other name lm-eval asks Hugging Face's evaluate, which runs the Python file of that name
    in the working folder, or else one from the hub.
    """

    def own_metric(name: str, hf_evaluate_metric: bool = False) -> Any:
        if hf_evaluate_metric or name not in registry.metric_registry:
            raise ValueError(
                f"metric '{name}' is not lm-eval's own but a program that evaluate would fetch "
                "and run: read it, then set allow_task_code: true"
            )
        return registry.get_metric(name)

    lm_eval_task.get_metric = registry.get_metric if allow_code else own_metric


@contextlib.contextmanager
def _refusal_in_words() -> Iterator[None]:
    try:
        yield
    except SecurityError as error:
        raise ValueError(
            f"a template of the tasks asks for more than its data ({error}): "
            "read it, then set allow_task_code: true"
        ) from error


def load_tasks(spec: EvaluateSpec, task_folder: Path | None) -> Loaded:
    """Tasks with their data, set up as the spec says; ValueError with every problem in words."""
    confine_templates(allow_code=spec.allow_task_code)
    confine_metrics(allow_code=spec.allow_task_code)
    manager = _task_manager(spec, task_folder)
    unknown = [name for name in spec.tasks if name not in manager.task_index]
    if unknown:
        raise ValueError(
            "\n".join(
                f"no task, group or tag '{name}'{nearest(name, manager.all_tasks)}"
                for name in unknown
            )
        )
    _refuse_code_of_models(spec, manager)
    try:
        with _refusal_in_words():
            loaded: Loaded = manager.load(list(spec.tasks))
    except (OSError, KeyError) as error:  # datasets' errors for what is not there are OSErrors
        where = "on the hub" if spec.allow_hub else "in task_folder or mirror"
        raise ValueError(f"the data of {', '.join(spec.tasks)} is not {where}: {error}") from error
    num_fewshot = _num_fewshot(spec, loaded)
    problems = [
        problem
        for name, task in loaded["tasks"].items()
        for problem in _set_up(task, spec, num_fewshot.get(name, spec.num_fewshot))
    ]
    problems += _unknown_metrics(spec, loaded)
    if not spec.allow_hub and not SENTENCES.is_dir():
        problems += [
            f"task '{name}' cuts sentences with NLTK's punkt_tab: put it into the mirror "
            f"as {SENTENCES}"
            for name in sorted(CUTS_SENTENCES & loaded["tasks"].keys())
        ]
    if spec.generation and not any(_generates(task) for task in loaded["tasks"].values()):
        problems.append("generation has no effect: none of the tasks generates text")
    if problems:
        raise ValueError("\n".join(problems))
    return loaded


def _refuse_code_of_models(spec: EvaluateSpec, manager: Any) -> None:
    """Before such a task is loaded, which may fetch a program that runs code."""
    for name in spec.tasks:
        if (manager.task_index[name].cfg or {}).get("unsafe_code"):
            raise ValueError(RUNS_CODE.format(name))


def _task_manager(spec: EvaluateSpec, task_folder: Path | None) -> Any:
    """An index of the folder's tasks, and of lm-eval's own (8 s) where one of them is named."""
    if task_folder is None:
        return TaskManager()
    has_other_data = spec.mirror is not None or spec.allow_hub
    problems = problems_of(
        task_folder,
        spec.tasks,
        has_other_data=has_other_data,
        allow_code=spec.allow_task_code,
    )
    if problems:
        raise ValueError("\n".join(problems))
    elsewhere = names_elsewhere(read_task_files(task_folder), spec.tasks)
    return TaskManager(include_path=str(task_folder), include_defaults=bool(elsewhere))


def _generates(task: Any) -> bool:
    return bool(task.get_config("output_type") == "generate_until")


def _num_fewshot(spec: EvaluateSpec, loaded: Loaded) -> dict[str, int]:
    """Examples by task, where a leaf of the spec's groups says how many for it or its group."""
    found: dict[str, int] = {}
    for name, num_fewshot in shots(spec.groups).items():
        if name in loaded["groups"]:
            members = [task.task_name for task in loaded["groups"][name].get_all_tasks()]
            found = dict.fromkeys(members, num_fewshot) | found
        else:
            found[name] = num_fewshot
    return found


def _unknown_metrics(spec: EvaluateSpec, loaded: Loaded) -> Iterator[str]:
    """Leaves of the spec's groups whose task is there and has no such metric."""
    for name, leaf in leaves(spec.groups):
        if name not in loaded["tasks"]:
            continue
        task = loaded["tasks"][name]
        filters = [entry["name"] for entry in task.config.filter_list or ({"name": "none"},)]
        known = [metric_label(metric, f) for metric in task.aggregation() for f in filters]
        if leaf.metric not in known:
            hint = nearest(leaf.metric, known) or f"; it has {', '.join(known)}"
            yield f"task '{name}' has no metric {leaf.metric}{hint}"


def _set_up(task: Any, spec: EvaluateSpec, num_fewshot: int | None) -> list[str]:
    """Apply the spec to one task; says what does not fit."""
    name = task.task_name
    problems = []
    if getattr(task, "UNSAFE_CODE", False):
        problems.append(RUNS_CODE.format(name))
    if len(task.eval_docs) == 0:
        problems.append(f"task '{name}' has no items")
    if spec.generation and _generates(task):
        task.set_config(
            key="generation_kwargs", value=_generation_options(spec.generation), update=True
        )
    own_num_fewshot = task.get_config("num_fewshot")
    if num_fewshot is None:
        task.set_config(key="num_fewshot", value=own_num_fewshot or 0)
    elif own_num_fewshot == 0 and num_fewshot > 0:
        problems.append(
            f"task '{name}' is defined with 0 examples: leave num_fewshot out, "
            "or evaluate it in a step of its own"
        )
    else:
        task.set_config(key="num_fewshot", value=num_fewshot)
    task.set_fewshot_seed(seed=spec.seeds.fewshot)
    return problems


def _generation_options(generation: Generation) -> dict[str, Any]:
    """In lm-eval's words, without what is left to the task."""
    options = {
        "max_gen_toks": generation.max_new_tokens,
        "temperature": generation.temperature,
        "do_sample": None if generation.temperature is None else generation.temperature > 0,
        "top_p": generation.top_p,
        "until": None if generation.stop is None else list(generation.stop),
    }
    return {name: value for name, value in options.items() if value is not None}


def run(spec: EvaluateSpec, model: Any, loaded: Loaded) -> dict[str, Any]:
    """lm-eval's results, samples included; ValueError where a perplexity overflows a float."""
    seeds = spec.seeds
    random.seed(seeds.python)
    np.random.seed(seeds.numpy)
    set_torch_seed(seeds.torch)
    os.environ["DISABLE_MULTIPROC"] = "1"  # bootstrap here, not in as many processes as cores
    try:
        with _refusal_in_words():
            results: dict[str, Any] = evaluate(
                lm=model,
                task_dict=loaded,
                limit=spec.limit,
                bootstrap_iters=spec.num_bootstrap,
                log_samples=True,
                system_instruction=spec.system_instruction,
                apply_chat_template=spec.apply_chat_template,
                fewshot_as_multiturn=spec.fewshot_as_multiturn,
                confirm_run_unsafe_code=False,
            )
    except OverflowError as error:
        raise ValueError(
            f"a perplexity is too large for a float: the model gives no usable probabilities "
            f"({error})"
        ) from error
    return results


def evaluated_tasks(loaded: Loaded, results: dict[str, Any]) -> list[EvaluatedTask]:
    """Each task's samples, with the kinds of its aggregations."""
    return [
        EvaluatedTask(
            name=name,
            samples=results["samples"][name],
            aggregations={
                metric: _AGGREGATIONS.get(function, Aggregation.OTHER)
                for metric, function in task.aggregation().items()
            },
        )
        for name, task in loaded["tasks"].items()
    ]
