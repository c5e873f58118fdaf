"""What an EvaluateSpec refuses, and what a task folder tells without lm-eval."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.evaluate.options import Seeds
from tasks.evaluate.spec import EvaluateSpec
from tasks.evaluate.task_folder import names_elsewhere, read_task_files, working_folder
from tests.fakes.tiny_tasks import write_tiny_tasks

MODEL = ArtifactRef(kind=ArtifactKind.MODEL, digest="0" * 64, size_bytes=1, name="m")
FOLDER = ArtifactRef(kind=ArtifactKind.TASKS, digest="1" * 64, size_bytes=1, name="t")
MIRROR = ArtifactRef(kind=ArtifactKind.FOLDER, digest="2" * 64, size_bytes=1, name="mirror")


def spec(**fields: Any) -> EvaluateSpec:
    return EvaluateSpec(**{"model": MODEL, "task_folder": FOLDER, "tasks": ("a",), **fields})


@pytest.fixture
def tiny_tasks(tmp_path: Path) -> Path:
    return write_tiny_tasks(tmp_path / "tasks")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task_folder": None}, "give task_folder, or mirror for standard tasks"),
        ({"mirror": MIRROR, "allow_hub": True}, "mirror and allow_hub are both set"),
        ({"tasks": ("a", "b", "a")}, "names a more than once"),
        ({"fewshot_as_multiturn": True}, "needs apply_chat_template: true"),
        ({"disable_thinking": True}, "needs apply_chat_template: true"),
        ({"num_concurrent": 4}, "belongs to backend: vllm"),
        ({"backend": "vllm", "batch_size": 4}, "belongs to backend: hf"),
        ({"backend": "vllm", "softmax_dtype": "float32"}, "belongs to backend: hf"),
        ({"server": {"enforce_eager": True}}, "server belongs to backend: vllm"),
        ({"backend": "vllm", "server": {"max_model_len": 64}}, "set max_length"),
        ({"backend": "vllm", "server": {"dtype": "float32"}}, "set dtype"),
        ({"batch_size": "auto", "device_kind": "cpu"}, "give a number on cpu"),
        ({"generation": {"top_p": 0.9}}, "no effect without a temperature"),
        ({"generation": {"top_p": 0.9, "temperature": 0}}, "no effect without a temperature"),
        ({"model_args": "dtype=auto"}, "Extra inputs are not permitted"),
        ({"tasks": ("/etc/task.yaml",)}, "should match pattern"),
    ],
)
def test_fields_that_contradict_each_other_are_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(**fields)


def test_all_conflicts_are_told_at_once() -> None:
    with pytest.raises(ValidationError) as error:
        spec(task_folder=None, num_concurrent=4, fewshot_as_multiturn=True)
    for words in ("no data for the tasks", "num_concurrent", "fewshot_as_multiturn"):
        assert words in str(error.value)


def test_a_resolved_spec_validates_again_from_its_json() -> None:
    for fields in ({}, {"backend": "vllm", "num_concurrent": 2}, {"batch_size": 3}):
        original = spec(**fields)
        assert EvaluateSpec.model_validate(original.model_dump(mode="json")) == original


def test_stop_strings_keep_what_a_string_of_options_would_break() -> None:
    awkward = "a=b,c=d\n"
    original = spec(generation={"stop": (awkward,)})
    assert EvaluateSpec.model_validate_json(original.model_dump_json()) == original
    assert original.generation is not None
    assert original.generation.stop == (awkward,)


def test_one_seed_stands_for_all_four_and_four_stand_for_themselves() -> None:
    assert spec(seed=7).seeds == Seeds(python=7, numpy=7, torch=7, fewshot=7)
    four = Seeds(python=1, numpy=2, torch=3, fewshot=4)
    assert spec(seed=four).seeds == four


def test_a_misspelt_task_is_refused_with_the_nearest_name(tiny_tasks: Path) -> None:
    with pytest.raises(ValidationError, match=r"no task 'heldout_txt' in .*'heldout_text'"):
        spec(task_folder=tiny_tasks, tasks=("heldout_txt",))


def test_with_a_mirror_a_name_may_also_be_a_standard_task(tiny_tasks: Path) -> None:
    accepted = spec(task_folder=tiny_tasks, mirror=MIRROR, tasks=("heldout_text", "gsm8k"))
    assert accepted.tasks == ("heldout_text", "gsm8k")


def test_a_broken_task_file_is_named_with_its_line(tiny_tasks: Path) -> None:
    (tiny_tasks / "broken.yaml").write_text("task: x\n  metric_list: [", encoding="utf-8")
    with pytest.raises(ValidationError, match=r"broken\.yaml:2:14 is not a task file: mapping"):
        spec(task_folder=tiny_tasks, tasks=("heldout_text",))


def test_yaml_that_would_build_python_objects_is_refused(tiny_tasks: Path) -> None:
    (tiny_tasks / "evil.yaml").write_text(
        "task: evil\nx: !!python/object/apply:os.system ['true']\n", encoding="utf-8"
    )
    with pytest.raises(
        ValidationError, match=r"evil\.yaml:2:4 is not a task file: could not determine"
    ):
        spec(task_folder=tiny_tasks, tasks=("heldout_text",))


@pytest.mark.parametrize("text", ["process_docs: !function utils.shuffle", "class: !function u.T"])
def test_python_code_of_a_task_folder_runs_only_when_allowed(tiny_tasks: Path, text: str) -> None:
    (tiny_tasks / "coded.yaml").write_text(f"task: coded\n{text}\n", encoding="utf-8")
    with pytest.raises(ValidationError, match=r"coded\.yaml .*allow_task_code: true"):
        spec(task_folder=tiny_tasks, tasks=("heldout_text",))
    assert spec(task_folder=tiny_tasks, tasks=("heldout_text",), allow_task_code=True)


METRIC = "metric_list: [{metric: %s, aggregation: mean, higher_is_better: true}]\n"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.yaml": "include: base.txt", "base.txt": "x: !function evil.f"}, "a.yaml"),
        (
            {
                "a.yaml": "include: [b.txt]\nx: 1",
                "b.txt": "include: sub/c",
                "sub/c": "x: !function e.f",
            },
            "a.yaml",
        ),
        ({"a.yaml": METRIC % "./mine, hf_evaluate: true"}, "a.yaml"),
        ({"a.yaml": METRIC % "rouge, hf_evaluate: true"}, "a.yaml"),
        ({"a.yaml": METRIC % "./mine"}, "a.yaml"),
        ({"a.yaml": "include: base", "base": METRIC % "mine/mine.py"}, "a.yaml"),
        ({"a.yaml": "group: g\ntask: [{task: a, " + METRIC.strip() % "./mine" + "}]"}, "a.yaml"),
    ],
)
def test_code_is_found_wherever_a_task_file_says_it(
    tiny_tasks: Path, files: dict[str, str], words: str
) -> None:
    for name, text in files.items():
        (tiny_tasks / name).parent.mkdir(exist_ok=True)
        head = "task: a\n" if name == "a.yaml" and not text.startswith("group") else ""
        (tiny_tasks / name).write_text(f"{head}{text}\n", encoding="utf-8")
    with pytest.raises(ValidationError, match=rf"{words} in .*allow_task_code: true"):
        spec(task_folder=tiny_tasks, tasks=("heldout_text",))
    assert spec(task_folder=tiny_tasks, tasks=("heldout_text",), allow_task_code=True)


@pytest.mark.parametrize(
    ("include", "words"),
    [
        (
            "../outside.yaml",
            r"a\.yaml includes \.\./outside\.yaml, which is not in the task folder",
        ),
        ("/etc/hostname", "a.yaml includes /etc/hostname, which is not in the task folder"),
        ("nowhere.yaml", "a.yaml includes nowhere.yaml, which is not there"),
        ("a.yaml", "a.yaml is included a second time"),
    ],
)
def test_a_task_file_includes_only_what_lies_in_the_folder(
    tiny_tasks: Path, include: str, words: str
) -> None:
    (tiny_tasks.parent / "outside.yaml").write_text("x: 1\n", encoding="utf-8")
    (tiny_tasks / "a.yaml").write_text(f"include: {include}\ntask: a\n", encoding="utf-8")
    with pytest.raises(ValidationError, match=words):
        spec(task_folder=tiny_tasks, tasks=("heldout_text",))


def test_what_a_task_file_includes_names_tasks_too(tiny_tasks: Path) -> None:
    (tiny_tasks / "a.yaml").write_text("include: base.txt\n", encoding="utf-8")
    (tiny_tasks / "base.txt").write_text("task: named_there\n", encoding="utf-8")
    assert spec(task_folder=tiny_tasks, tasks=("named_there",))


def test_members_of_a_group_are_looked_up_too(tiny_tasks: Path) -> None:
    (tiny_tasks / "mixed.yaml").write_text(
        "group: mixed\ntask: [heldout, {task: gsm8k, num_fewshot: 2}]\n", encoding="utf-8"
    )
    files = read_task_files(tiny_tasks)
    assert names_elsewhere(files, ["heldout"]) == []
    assert names_elsewhere(files, ["mixed"]) == ["gsm8k"]


def test_task_folder_and_mirror_lie_side_by_side(tmp_path: Path, tiny_tasks: Path) -> None:
    (tmp_path / "mirror/openai/gsm8k").mkdir(parents=True)
    work = working_folder(tmp_path / "work", [tiny_tasks, tmp_path / "mirror"])
    assert (work / "documents.jsonl").is_file()
    assert (work / "openai/gsm8k").is_dir()


def test_two_sources_of_one_name_are_refused(tmp_path: Path, tiny_tasks: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/documents.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match=r"'documents\.jsonl' is both"):
        working_folder(tmp_path / "work", [tiny_tasks, tmp_path / "mirror"])


def test_importing_the_step_loads_nothing_heavy() -> None:
    code = (
        "import sys, tasks.evaluate, tasks.evaluate.mirror\n"
        "heavy = {'torch', 'transformers', 'datasets', 'lm_eval', 'prefect', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
