"""The evaluation body with lm-eval and a tiny model, nothing faked."""

import json
import math
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tasks.artifacts import ArtifactKind
from tasks.evaluate.check import check
from tasks.evaluate.json_lines import write_json_lines
from tasks.evaluate.spec import EvaluateResult, EvaluateSpec
from tasks.store.local import LocalStore
from tests.fakes import transformers_server
from tests.fakes.body_runs import Answer, run_bodies
from tests.fakes.quickstart import demand_serving
from tests.fakes.tiny_mirror import write_mirror, write_raw
from tests.fakes.tiny_tasks import write_tiny_tasks

BODY = "tasks.evaluate.body"
WINDOW_TOKENS = 16

CODED_TASK = """\
include: heldout_choice.yaml
task: coded
process_docs: !function first.first_two
"""
# Reaches a Python function from a template, by way of an object's attributes.
TEMPLATE_TASK = """\
include: heldout_choice.yaml
task: reaching
doc_to_text: "{{ cycler.__init__.__globals__.os.getpid() }} {{context}}"
"""
# No metric of lm-eval's, and a Python file of that name in the working folder.
MEASURED_TASK = """\
include: heldout_choice.yaml
task: measured
metric_list: [{metric: mine, aggregation: mean, higher_is_better: true}]
"""
SHOTS_TASK = """\
include: heldout_choice.yaml
task: shots
num_fewshot: 2
"""
CODE = "def first_two(documents):\n    return documents.select(range(2))\n"


def core_spec(model: Path, folder: Path, **fields: Any) -> EvaluateSpec:
    return EvaluateSpec(
        model=model,
        task_folder=folder,
        tasks=("heldout_text", "heldout", "heldout_answer"),
        dtype="float32",
        device_kind="cpu",
        **fields,
    )


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_tasks(tmp_path_factory.mktemp("evaluate") / "tasks")
    (folder / "shots.yaml").write_text(SHOTS_TASK)
    (folder / "lost.yaml").write_text(
        (folder / "heldout_text.yaml")
        .read_text()
        .replace("heldout_text", "lost")
        .replace("documents.jsonl", "nowhere.jsonl")
    )
    return folder


@pytest.fixture(scope="module")
def runs(
    tiny_model: Path, task_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Answer]:
    """Good and bad evaluations, all in one process."""
    folder = tmp_path_factory.mktemp("runs")

    def spec(**fields: Any) -> EvaluateSpec:
        base = {"model": tiny_model, "task_folder": task_folder, "device_kind": "cpu"}
        return EvaluateSpec(**{**base, "tasks": ("heldout_choice",), **fields})

    reaching = write_tiny_tasks(folder / "reaching-tasks")
    (reaching / "reaching.yaml").write_text(TEMPLATE_TASK)
    coded = write_tiny_tasks(folder / "coded-tasks")
    (coded / "coded.yaml").write_text(CODED_TASK)
    (coded / "first.py").write_text(CODE)
    linked = LocalStore(folder / "store").materialize(
        LocalStore(folder / "store").put(coded, ArtifactKind.TASKS, "coded")
    )
    measured = write_tiny_tasks(folder / "measured-tasks")
    (measured / "measured.yaml").write_text(MEASURED_TASK)
    (measured / "mine").mkdir()
    (measured / "mine/mine.py").write_text("raise SystemExit('the code of a metric ran')\n")
    return run_bodies(
        BODY,
        folder,
        {
            "core": core_spec(tiny_model, task_folder),
            "windows": spec(tasks=("heldout_text",), max_length=WINDOW_TOKENS, dtype="float32"),
            "chat": spec(
                tasks=("heldout_answer",),
                apply_chat_template=True,
                system_instruction="Answer in rhyme.",
                limit=2,
                generation={"max_new_tokens": 2, "stop": ("=,",)},
            ),
            "coded": spec(task_folder=linked, tasks=("coded",), allow_task_code=True),
            "measured": spec(task_folder=measured, tasks=("measured",)),
            "reaching": spec(task_folder=reaching, tasks=("reaching",)),
            "reaching, allowed": spec(
                task_folder=reaching, tasks=("reaching",), limit=1, allow_task_code=True
            ),
            "pickled": spec(model=pickled_model(tiny_model, folder / "pickled-model")),
            "with code": spec(model=coded_model(tiny_model, folder / "coded-model")),
            "nan": spec(model=nan_model(tiny_model, folder / "nan-model")),
            "groups": spec(
                tasks=("heldout_choice", "shots", "heldout_answer"),
                groups={
                    "ours": {
                        "choices": {
                            "shots": {
                                "metric": "acc",
                                "num_fewshot": 1,
                                "random_score": 0.25,
                            }
                        },
                        "answers": {"task": "heldout_answer", "metric": "exact_match,first"},
                    },
                    "theirs": {
                        "heldout_choice": {"metric": "acc"},
                        "elsewhere": {"metric": "acc"},
                    },
                },
            ),
            "unknown metric": spec(groups={"g": {"heldout_choice": {"metric": "acc_nrom"}}}),
            "fewshot": spec(tasks=("heldout_answer",), num_fewshot=2),
            "generation": spec(generation={"max_new_tokens": 2}),
            "long": spec(max_length=4096),
            "lost": spec(tasks=("lost",)),
        },
    )


def pickled_model(model: Path, target: Path) -> Path:
    """A copy whose weights are pickled, as old models' are."""
    shutil.copytree(model, target)
    (target / "model.safetensors").rename(target / "pytorch_model.bin")
    return target


def coded_model(model: Path, target: Path) -> Path:
    """A copy that wants code of its own to be run."""
    shutil.copytree(model, target)
    config = json.loads((target / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling.Model"}
    (target / "config.json").write_text(json.dumps(config))
    return target


def nan_model(model: Path, target: Path) -> Path:
    """A copy whose last norm is NaN, as an overflown compression leaves it."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, target)
    tensors = load_file(target / "model.safetensors")
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], math.nan)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def result_of(answer: Answer) -> EvaluateResult:
    assert answer.error is None
    return EvaluateResult.model_validate(answer.result)


def test_every_task_metric_and_group_has_a_score_with_an_error(runs: dict[str, Answer]) -> None:
    result = result_of(runs["core"])
    assert {(score.task, score.label) for score in result.scores} == {
        ("heldout_text", "bits_per_byte"),
        ("heldout_text", "byte_perplexity"),
        ("heldout_text", "word_perplexity"),
        ("heldout_choice", "acc"),
        ("heldout_choice", "acc_norm"),
        ("heldout_answer", "exact_match,first"),
        ("heldout", "acc"),
    }
    assert all(score.stderr is not None for score in result.scores)
    assert result.score("heldout_text", "bits_per_byte").num_items == 6
    assert result.score("heldout_text", "bits_per_byte").higher_is_better is False
    assert result.score("heldout", "acc").num_items == 10
    [part] = result.score("heldout", "acc").parts
    assert (part.task, part.metric, part.factor) == ("heldout_choice", "acc", 1.0)


def test_samples_add_up_to_lm_evals_own_scores(runs: dict[str, Answer]) -> None:
    own = json.loads((runs["core"].out / "results.json").read_text())["results"]
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for line in runs["core"].json_lines("samples.jsonl"):
        entry = sums[line["task"], line["metric"]]
        entry[0] += line["numerator"]
        entry[1] += line["denominator"]
    assert set(sums) == {
        ("heldout_text", "bits_per_byte"),
        ("heldout_choice", "acc"),
        ("heldout_choice", "acc_norm"),
        ("heldout_answer", "exact_match,first"),
    }
    for (task, metric), (numerator, denominator) in sums.items():
        key = metric if "," in metric else f"{metric},none"
        assert numerator / denominator == pytest.approx(own[task][key], rel=1e-9, abs=1e-9)


def test_the_steps_own_check_accepts_the_body_and_refuses_a_touched_sample(
    runs: dict[str, Answer], tmp_path: Path
) -> None:
    answer = runs["core"]
    spec = EvaluateSpec.model_validate(json.loads(answer.request.read_text())["spec"])
    result = result_of(answer)
    check(spec, result, lambda ref: answer.out / ref.name)

    lines = answer.json_lines("samples.jsonl")
    lines[0]["numerator"] *= 1.001
    write_json_lines(tmp_path / "samples.jsonl", lines)
    with pytest.raises(ValueError, match="6 samples of heldout_text/bits_per_byte give"):
        check(spec, result, lambda ref: tmp_path / ref.name)
    write_json_lines(tmp_path / "samples.jsonl", [lines[1], lines[1]])
    with pytest.raises(ValueError, match="of heldout_text/bits_per_byte twice"):
        check(spec, result, lambda ref: tmp_path / ref.name)


def test_items_are_named_by_content_and_know_their_source(runs: dict[str, Answer]) -> None:
    lines = runs["core"].json_lines("samples.jsonl")
    names = [(line["task"], line["metric"], line["item"]) for line in lines]
    assert len(set(names)) == len(names)
    assert {line["cluster"] for line in lines} == {"play-0", "play-1", "play-2"}
    doubled = {line["item"] for line in lines if line["item"].endswith("-2")}
    assert len(doubled) == 1
    assert {name.removesuffix("-2") for name in doubled} <= {line["item"] for line in lines}


def generated(answer: Answer) -> list[str]:
    """What the model wrote for each item of heldout_answer."""
    lines = answer.json_lines("outputs.jsonl")
    return [line["resps"][0][0] for line in lines if line["task"] == "heldout_answer"]


def test_prompts_and_answers_are_kept(runs: dict[str, Answer]) -> None:
    assert len(runs["core"].json_lines("outputs.jsonl")) == 6 + 10 + 10
    assert len(generated(runs["core"])) == 10
    assert all(generated(runs["core"]))


def test_no_path_of_the_machine_is_in_an_artifact(
    runs: dict[str, Answer], tiny_model: Path, task_folder: Path
) -> None:
    out = runs["core"].out
    for name in ("samples.jsonl", "results.json", "outputs.jsonl"):
        text = (out / name).read_text()
        for path in (out, tiny_model, task_folder, Path.home()):
            assert str(path) not in text


def test_progress_reaches_its_end(runs: dict[str, Answer]) -> None:
    last = runs["core"].metrics[-1]
    assert last["step"] == last["num_steps"] == 6 + 10 * 4 + 10


def test_documents_longer_than_a_window_are_scored_token_by_token(
    runs: dict[str, Answer], tiny_model: Path, task_folder: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    lines = (task_folder / "documents.jsonl").read_text().splitlines()
    expected = []
    for text in (json.loads(line)["text"] for line in lines):
        tokens = [tokenizer.bos_token_id, *tokenizer(text).input_ids]
        assert len(tokens) > 2 * WINDOW_TOKENS
        nats = 0.0
        for start in range(0, len(tokens) - 1, WINDOW_TOKENS):
            # The last window is moved back to be as long as the others; its tokens that an earlier
            # window scored are context.
            end = min(start + WINDOW_TOKENS, len(tokens) - 1)
            begin = max(0, end - WINDOW_TOKENS)
            window = torch.tensor([tokens[begin : end + 1]])
            with torch.inference_mode():
                logits = model(window[:, :-1]).logits[0].log_softmax(-1)
            scored = logits.gather(1, window[0, 1:, None])[start - begin :]
            nats += float(scored.sum())
        expected.append(-nats / math.log(2))
    found = [line["numerator"] for line in runs["windows"].json_lines("samples.jsonl")]
    assert found == pytest.approx(expected, rel=1e-5)


def test_chat_template_system_instruction_and_generation_reach_the_model(
    runs: dict[str, Answer],
) -> None:
    lines = runs["chat"].json_lines("outputs.jsonl")
    assert len(lines) == 2
    prompt, options = lines[0]["arguments"][0]
    assert prompt.startswith("<|im_start|>system\nAnswer in rhyme.<|im_end|>\n<|im_start|>user\n")
    assert options["max_gen_toks"] == 2
    assert options["until"] == ["=,"]


def test_groups_are_averaged_with_the_examples_that_they_ask_for(runs: dict[str, Answer]) -> None:
    result = result_of(runs["groups"])
    choice = result.score("shots", "acc")
    answer = result.score("heldout_answer", "exact_match", "first")
    assert (choice.num_fewshot, answer.num_fewshot) == (1, 0)
    expected = ((choice.value - 0.25) / 0.75 + answer.value) / 2
    assert result.group("ours").value == pytest.approx(expected)
    assert result.score("ours", "average").value == result.group("ours").value
    assert [(part.task, part.factor) for part in result.score("ours", "average").parts] == [
        ("shots", 0.5),
        ("heldout_answer", 0.5),
    ]
    assert result.group("theirs").value is None
    assert result.group("theirs").reason == (
        "1 of 2 tasks have no score: elsewhere was not evaluated"
    )
    assert ("theirs", "average") not in {(score.task, score.label) for score in result.scores}


def test_a_task_folder_may_bring_code_when_allowed(runs: dict[str, Answer]) -> None:
    assert result_of(runs["coded"]).score("coded", "acc").num_items == 2


def test_a_template_may_reach_python_only_when_allowed(runs: dict[str, Answer]) -> None:
    prompt, _ = runs["reaching, allowed"].json_lines("outputs.jsonl")[0]["arguments"][0]
    assert prompt.split()[0].isdigit(), "or the test would prove nothing"
    assert runs["reaching"].result is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan", "likelihoods are NaN for 10 of 10 samples of task 'heldout_choice'"),
        ("reaching", "a template of the tasks asks for more than its data (access to attribute"),
        ("measured", "metric 'mine' is not lm-eval's own but a program that evaluate would fetch"),
        ("pickled", "pytorch_model.bin, pickled weights, which can run code when read"),
        ("with code", "config.json has 'auto_map': it wants to run Python code"),
        ("unknown metric", "task 'heldout_choice' has no metric acc_nrom; did you mean 'acc_norm'"),
        ("fewshot", "task 'heldout_answer' is defined with 0 examples"),
        ("generation", "generation has no effect"),
        ("long", "max_length is 4096, but the model has 512 positions"),
        ("lost", "the data of lost is not in task_folder or mirror"),
    ],
)
def test_an_evaluation_that_would_mislead_fails_in_words(
    runs: dict[str, Answer], name: str, words: str
) -> None:
    assert runs[name].result is None
    assert words in (runs[name].error or "")


@pytest.fixture(scope="module")
def other_runs(
    tiny_model: Path, task_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Answer]:
    """The core again, in another process and over HTTP, and standard tasks over sums of ours."""
    folder = tmp_path_factory.mktemp("other")
    specs = {}
    specs["standard"] = EvaluateSpec(
        model=tiny_model,
        mirror=write_mirror(write_raw(folder / "raw"), folder / "mirror"),
        tasks=("gsm8k", "leaderboard_bbh_boolean_expressions"),
        limit=4,
        generation={"max_new_tokens": 16},
        device_kind="cpu",
    )
    specs["served"] = core_spec(tiny_model, task_folder, backend="vllm", limit=3)
    specs["core"] = core_spec(tiny_model, task_folder)
    transformers_server.install(folder / "home" / "labwright")
    return run_bodies(BODY, folder, specs)


def test_two_processes_give_the_same_result_to_the_byte(
    runs: dict[str, Answer], other_runs: dict[str, Answer]
) -> None:
    assert result_of(runs["core"]) == result_of(other_runs["core"])


def test_a_served_model_scores_as_the_same_model_does_in_process(
    runs: dict[str, Answer], other_runs: dict[str, Answer]
) -> None:
    assert result_of(other_runs["served"]).score("heldout", "acc").num_items == 3
    here = {
        (line["task"], line["metric"], line["item"]): line["numerator"]
        for line in runs["core"].json_lines("samples.jsonl")
    }
    lines = other_runs["served"].json_lines("samples.jsonl")
    assert len(lines) == 3 * 4
    for line in lines:
        expected = here[line["task"], line["metric"], line["item"]]
        assert line["numerator"] == pytest.approx(expected, rel=1e-5)
    assert generated(runs["core"])[:3] == generated(other_runs["served"])


def test_caches_are_gone_and_the_users_own_is_never_touched(other_runs: dict[str, Answer]) -> None:
    out = other_runs["core"].out
    assert not (out / "scratch").exists()
    assert not list((out.parent / "home").rglob("huggingface"))


def test_standard_tasks_run_unmodified_from_a_mirror(other_runs: dict[str, Answer]) -> None:
    result = result_of(other_runs["standard"])
    assert result.score("gsm8k", "exact_match", "strict-match").num_items == 4
    assert result.score("gsm8k", "exact_match", "flexible-extract").num_fewshot == 5
    bbh = result.score("leaderboard_bbh_boolean_expressions", "acc_norm")
    assert (bbh.num_items, bbh.num_fewshot) == (4, 3)
    first = other_runs["standard"].json_lines("outputs.jsonl")[0]
    assert first["task"] == "gsm8k"
    assert first["doc"]["question"].startswith("A baker has")
    assert sys.prefix not in (other_runs["standard"].out / "results.json").read_text()


@pytest.mark.long
def test_a_misspelt_standard_task_fails_with_the_nearest_name(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "mirror").mkdir()
    spec = EvaluateSpec(model=tiny_model, mirror=tmp_path / "mirror", tasks=("gsm9k", "gsm8k"))
    answer = run_bodies(BODY, tmp_path / "run", {"misspelt": spec})["misspelt"]
    assert answer.error == "no task, group or tag 'gsm9k'; did you mean 'gsm8k'?"


@pytest.mark.long
def test_a_standard_task_without_its_data_says_what_the_mirror_lacks(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "mirror").mkdir()
    spec = EvaluateSpec(model=tiny_model, mirror=tmp_path / "mirror", tasks=("gsm8k",))
    answer = run_bodies(BODY, tmp_path / "run", {"empty": spec})["empty"]
    assert "the data of gsm8k is not in task_folder or mirror" in (answer.error or "")
    assert "openai/gsm8k" in (answer.error or "")


@pytest.mark.long
def test_real_vllm_agrees_with_transformers_within_a_standard_error(
    tiny_model: Path, tmp_path: Path
) -> None:
    environments = demand_serving()
    folder = write_tiny_tasks(tmp_path / "tasks", num_documents=20, num_choices=40, num_words=200)
    home = tmp_path / "run" / "home" / "labwright"
    home.mkdir(parents=True)
    (home / "envs").symlink_to(environments)
    server = {"enforce_eager": True, "kv_cache_space_gib": 1}
    answers = run_bodies(
        BODY,
        tmp_path / "run",
        {
            "hf": core_spec(tiny_model, folder),
            "vllm": core_spec(tiny_model, folder, backend="vllm", server=server),
        },
    )
    served = result_of(answers["vllm"])
    for score in result_of(answers["hf"]).scores:
        other = served.score(score.task, score.metric, score.filter)
        assert score.stderr is not None
        assert other.value == pytest.approx(score.value, abs=max(score.stderr, 1e-9))
