"""Experiment files: what is refused before anything runs, and the words and places of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.experiment import Experiment, load_experiment
from flows.experiment.kinds import kind_at
from tasks.annotations import members_of
from tasks.artifacts import ArtifactRef
from tasks.command import CommandSpec
from tasks.command import command as command_step
from tasks.command.spec import script_index
from tasks.errors import Problem, SpecError
from tasks.registry import STEPS, step_of

ECHO = "{kind: command, script: echo, inputs: {}}"


def load(folder: Path, text: str, *overrides: str) -> Experiment:
    path = folder / "file.yaml"
    path.write_text(text)
    return load_experiment(path, overrides)


def problems(folder: Path, text: str, *overrides: str) -> dict[str, Problem]:
    with pytest.raises(SpecError) as refused:
        load(folder, text, *overrides)
    return {problem.key: problem for problem in refused.value.problems}


def command(experiment: Experiment, name: str) -> CommandSpec:
    spec = experiment.steps[name].spec({})
    assert isinstance(spec, CommandSpec)
    return spec


def test_all_problems_of_a_file_come_at_once_each_with_its_line(tmp_path: Path):
    found = problems(
        tmp_path,
        "experiment: {name: x, tag: [y]}\n"
        "steps:\n"
        "  a: {kind: comand, script: echo}\n"
        "  b: {kind: command, scrpt: echo}\n"
        "  c: {kind: command, script: echo, placement: {gpu: 1}}\n"
        '  d: {kind: command, script: "${experiment.nme}", outputs: [../x]}\n'
        '  e: {kind: command, script: "${env:LABWRIGHT_NOT_SET}"}\n'
        "deliverables:\n"
        '  - {type: t, path: ""}\n',
    )
    lines = {key: problem.line for key, problem in found.items()}
    assert lines == {
        "experiment.tag": 1,
        "steps.a.kind": 3,
        "steps.b.scrpt": 4,
        "steps.b.script": 4,
        "steps.c.placement.gpu": 5,
        "steps.d.script": 6,
        "steps.d.outputs.0": 6,
        "steps.e.script": 7,
        "deliverables.0.path": 9,
    }
    assert "did you mean 'command'?" in found["steps.a.kind"].message
    assert "did you mean 'script'?" in found["steps.b.scrpt"].message
    assert "did you mean 'gpus'?" in found["steps.c.placement.gpu"].message
    assert "did you mean 'name'?" in found["steps.d.script"].message
    assert "not set" in found["steps.e.script"].message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("campaign: {}\nsteps: {}", "not an experiment file: it is a campaign"),
        ("plan: []", "not an experiment file: it is a plan"),
        ("experiment: {}", "it has no 'steps'"),
        ("- a", "not an experiment file"),
        ("", "not an experiment file"),
        ("step: {}", "did you mean 'steps'?"),
        ("steps: {}", "has no steps"),
        ("steps: []", "must be a mapping"),
        ("steps: {a: 3}", "must be a mapping with 'kind'"),
        ("steps: {a: {script: echo}}", "is required: one of prepare"),
        ("steps: {1a: {kind: command}}", "names are letters"),
    ],
)
def test_what_is_no_experiment_is_refused_in_words(tmp_path: Path, text: str, words: str):
    with pytest.raises(SpecError, match=r"file\.yaml") as refused:
        load(tmp_path, text)
    assert words in str(refused.value)


def test_references_within_the_file_keep_their_type(tmp_path: Path):
    experiment = load(
        tmp_path,
        "experiment: {name: demo, metadata: {n: 8, rates: [0.1, 0.2], on: true}}\n"
        "steps:\n"
        "  a:\n"
        "    kind: command\n"
        '    script: [echo, "${experiment.name}-${experiment.metadata.n}"]\n'
        "    config:\n"
        '      n: "${experiment.metadata.n}"\n'
        '      on: "${experiment.metadata.on}"\n'
        '      rate: "${experiment.metadata.rates.1}"\n'
        '      all: "${experiment.metadata.rates}"\n'
        '      text: "$${kept}"\n'
        "    inputs: {}\n"
        "  b: {kind: command, script: echo, config: {n: '${steps.a.config.n}'}}\n",
    )
    config = command(experiment, "a").config
    assert config == {"n": 8, "on": True, "rate": 0.2, "all": (0.1, 0.2), "text": "${kept}"}
    assert command(experiment, "a").script == ("echo", "demo-8")
    assert command(experiment, "b").config == {"n": 8}


def test_environment_variables_are_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABWRIGHT_TRIAL", "7")
    experiment = load(
        tmp_path, "steps: {a: {kind: command, script: echo, config: {n: '${env:LABWRIGHT_TRIAL}'}}}"
    )
    assert command(experiment, "a").config == {"n": "7"}


def test_a_cycle_of_values_is_named_by_its_path(tmp_path: Path):
    found = problems(
        tmp_path,
        'experiment: {metadata: {a: "${experiment.metadata.b}", b: "x${experiment.metadata.a}"}}\n'
        f"steps: {{s: {ECHO}}}",
    )
    words = [problem.message for problem in found.values()]
    assert any(
        "experiment.metadata.a -> experiment.metadata.b -> experiment.metadata.a" in word
        for word in words
    )


def test_a_cycle_of_steps_is_named_by_its_path(tmp_path: Path):
    found = problems(
        tmp_path,
        "steps:\n"
        '  a: {kind: command, script: echo, inputs: {x: "${steps.b.outputs}"}}\n'
        '  b: {kind: command, script: echo, inputs: {x: "${steps.c.outputs}"}}\n'
        '  c: {kind: command, script: echo, inputs: {x: "${steps.a.outputs}"}}\n',
    )
    (problem,) = found.values()
    names = problem.message.removeprefix("steps wait for each other: ").split(" -> ")
    assert len(names) == 4
    assert names[0] == names[-1]
    assert set(names) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("${steps.a.outptus}", "did you mean 'outputs'?"),
        ("${steps.a.outputs.dgest}", "has no field 'dgest'; did you mean 'digest'?"),
        ("${steps.z.outputs}", "names nothing"),
        ("${steps.a.num_files}", "must be a path or an artifact"),
        ("${steps.a.outputs}/x", "cannot stand within a text"),
    ],
)
def test_a_reference_to_a_result_is_checked_by_name_and_type(
    tmp_path: Path, value: str, words: str
):
    found = problems(
        tmp_path,
        f'steps:\n  a: {ECHO}\n  b: {{kind: command, script: echo, inputs: {{x: "{value}"}}}}\n',
    )
    assert words in found["steps.b.inputs.x"].message
    assert found["steps.b.inputs.x"].line == 3


def test_a_result_may_stand_in_a_text_if_it_is_a_number(tmp_path: Path):
    experiment = load(
        tmp_path,
        f"steps:\n  a: {ECHO}\n"
        '  b: {kind: command, script: echo, config: {x: "n=${steps.a.num_files}"}}\n',
    )
    assert experiment.steps["b"].upstream == ("a",)


def test_overrides_replace_values_and_are_named_in_problems(tmp_path: Path):
    text = f"steps: {{a: {ECHO}}}"
    experiment = load(tmp_path, text, "steps.a.config.lr=1e-3", "steps.a.script=[echo, hi]")
    assert command(experiment, "a").config == {"lr": 0.001}
    assert command(experiment, "a").script == ("echo", "hi")
    with pytest.raises(SpecError, match=r"--set steps\.a\.ouputs=x.*did you mean 'outputs'"):
        load(tmp_path, text, "steps.a.ouputs=x")
    with pytest.raises(SpecError, match=r"there is no 'z'; valid here: a"):
        load(tmp_path, text, "steps.z.script=x")
    with pytest.raises(SpecError, match="KEY=VALUE"):
        load(tmp_path, text, "steps.a")


def test_the_short_form_is_a_command_step_named_training(tmp_path: Path):
    (tmp_path / "train.py").write_text("")
    experiment = load(
        tmp_path,
        "experiment: {name: short}\n"
        "training:\n"
        "  script: python train.py --name 'two words'\n"
        "  config: {lr: 0.1, fast: true, slow: false}\n"
        "deliverables: [{type: model, path: model.bin}]\n"
        "metadata: {who: me}\n",
    )
    spec = command(experiment, "training")
    assert spec.argv() == (
        *("python", "train.py", "--name", "two words"),
        *("--fast", "--lr", "0.1"),
    )
    assert experiment.header.metadata == {"who": "me"}
    assert str(experiment.deliverables[0].artifact) == "${steps.training.outputs}"


def test_a_problem_in_a_short_form_keeps_its_line(tmp_path: Path):
    found = problems(tmp_path, "training:\n  script: echo\n  confg: {}\n")
    assert found["steps.training.confg"].line == 3


def test_a_script_that_is_not_there_is_found_out_before_the_run(tmp_path: Path):
    (tmp_path / "train.py").write_text("")
    found = problems(tmp_path, "training: {script: python trian.py}")
    assert "did you mean 'train.py'?" in found["steps.training.script"].message


def test_options_in_another_order_are_the_same_command_line_and_the_same_identity():
    first = CommandSpec(script="echo", config={"b": 2, "a": True, "c": (1, 2)}, inputs={})
    again = CommandSpec(script="echo", config={"c": (1, 2), "a": True, "b": 2}, inputs={})
    assert first.argv() == again.argv() == ("echo", "--a", "--b", "2", "--c", "1", "2")
    assert command_step.identity(first) == command_step.identity(again)


def test_a_list_of_words_is_not_changed_by_its_options(tmp_path: Path):
    words = ["echo", "a"]
    spec = CommandSpec(script=words, config={"b": 1}, inputs={})
    assert spec.argv() == spec.argv() == ("echo", "a", "--b", "1")
    assert words == ["echo", "a"]


def test_deliverables_of_one_name_are_refused(tmp_path: Path):
    found = problems(
        tmp_path,
        f"steps: {{a: {ECHO}}}\n"
        "deliverables:\n  - {type: t, path: a}\n  - {type: t, path: b}\n",
    )
    assert found["deliverables.1"].line == 4


@pytest.mark.parametrize("path", ["", "../x", "/etc/passwd", "a/../../b", "~/x"])
def test_deliverables_stay_in_their_folder(tmp_path: Path, path: str):
    found = problems(
        tmp_path, f'steps: {{a: {ECHO}}}\ndeliverables: [{{type: t, path: "{path}"}}]\n'
    )
    assert "relative path" in found["deliverables.0.path"].message


def test_an_unknown_validation_is_an_error_and_never_exists(tmp_path: Path):
    found = problems(
        tmp_path,
        f"steps: {{a: {ECHO}}}\ndeliverables: [{{type: t, path: a, validation: treshold}}]\n",
    )
    assert "did you mean 'threshold'?" in found["deliverables.0"].message


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("python absnt.py", r"there is no /.*/absnt\.py; did you mean 'absent\.py'\?"),
        ("python folder", "folder is a folder, not a script"),
        ("./folder", "folder is a folder, not a script"),
        ("./nothing.sh", r"there is no /.*/nothing\.sh"),
        ("./absent.py", r"is not executable; type: chmod \+x"),
        ("/nowhere/python absent.py", "there is no /nowhere/python"),
        ("pyton absent.py", "there is no program 'pyton' on PATH; did you mean 'python'"),
        ("17", "must be a command line: 'python train.py' or"),
        ("[]", "names no program; write 'python train.py' or"),
        ('""', "names no program"),
        ('[echo, "a\\0"]', "NUL"),
    ],
)
def test_a_script_that_cannot_start_is_found_by_validating_whatever_the_steps_before_it_find(
    tmp_path: Path, script: str, words: str
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "absent.py").touch(0o644)
    text = (
        f"steps:\n  a: {ECHO}\n  b:\n    kind: command\n    script: {script}\n"
        '    config: {n: "${steps.a.num_files}"}\n'
    )
    (problem,) = problems(tmp_path, text).values()
    assert (problem.key, problem.line) == ("steps.b.script", 5)
    assert re.search(words, problem.message)


def test_every_script_of_a_file_is_looked_at_beside_everything_else(tmp_path: Path):
    step = "{kind: command, script: python absent.py, outputs: [../x]}"
    found = problems(tmp_path, f"steps:\n  a: {step}\n  b: {step}\n")
    keys = [f"steps.{name}.{field}" for name in "ab" for field in ("script", "outputs.0")]
    assert sorted(found) == sorted(keys)
    assert "found 'python absent.py'" in str(found)


def test_a_script_that_may_not_be_read_is_found_by_validating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "mine.py").touch()
    monkeypatch.setattr("os.access", lambda *_: False)  # root may read everything
    (problem,) = problems(tmp_path, "steps: {a: {kind: command, script: python mine.py}}").values()
    assert "mine.py cannot be read; type: chmod +r" in problem.message


@pytest.mark.parametrize(
    ("words", "index"),
    [
        (("python", "-W", "ignore", "mine.py"), 3),
        (("bash", "-ec", "echo hi"), None),
        (("python", "-Im", "json.tool"), None),
        (("echo", "mine.py"), None),
        (("./mine.py",), 0),
    ],
)
def test_which_word_is_the_script(tmp_path: Path, words: tuple[str, ...], index: int | None):
    (tmp_path / "mine.py").touch(0o755)
    assert script_index(words, tmp_path) == index


def test_a_program_may_be_on_a_path_of_the_steps_own(tmp_path: Path):
    (tmp_path / "mytool").touch()
    (tmp_path / "mytool").chmod(0o755)
    (tmp_path / "elsewhere").mkdir()
    step = f"{{kind: command, script: mytool, environment: {{PATH: '{tmp_path}'}}}}"
    experiment = load(tmp_path / "elsewhere", f"steps: {{a: {step}}}")
    assert command(experiment, "a").script_file is None


def test_an_unset_variable_is_not_confused_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LABWRIGHT_SOMEWHERE", "x")
    text = "steps: {{a: {{kind: command, script: 'echo ${{env:{}}}'}}}}"
    (problem,) = problems(tmp_path, text.format("LABWRIGHT_MIRROR")).values()
    assert problem.message == (
        "${env:LABWRIGHT_MIRROR}: the environment variable is not set; "
        "type: export LABWRIGHT_MIRROR=VALUE"
    )
    (problem,) = problems(tmp_path, text.format("LABWRIGHT_SOMEWERE")).values()
    assert "did you mean 'LABWRIGHT_SOMEWHERE'?" in problem.message


def test_a_limit_that_is_no_number_is_one_line_in_our_words(tmp_path: Path):
    text = (
        f"steps: {{a: {ECHO}}}\ndeliverables:\n"
        '  - {type: x, validation: threshold, metric: 1.0, operator: ">", value: abc}\n'
    )
    (problem,) = problems(tmp_path, text).values()
    assert problem.message == (
        "must be a reference such as ${steps.NAME.FIELD} or a number, found 'abc'"
    )


def test_an_error_that_only_follows_from_another_is_not_told(tmp_path: Path):
    text = 'steps: {a: {kind: train, num_steps: abc, model: "x", train_tokens: "x"}}'
    found = problems(tmp_path, text)
    assert "must be a whole number, found 'abc'" in str(found)
    assert "factory" not in str(found)


def test_an_experiment_without_a_name_has_its_files(tmp_path: Path):
    assert load(tmp_path, f"steps: {{a: {ECHO}}}").header.name == "file"
    assert load(tmp_path, f"experiment: {{tags: [x]}}\nsteps: {{a: {ECHO}}}").header.name == "file"
    odd = tmp_path / ".my (first) *run*.v2.yaml"
    odd.write_text(f"steps: {{a: {ECHO}}}")
    assert load_experiment(odd).header.name == "my _first_ _run_.v2"


CHAIN = """\
steps:
  data: {kind: prepare, model: {kind: gguf, file: model.gguf}}
  train: {kind: train, model: "${steps.data.train_tokens}", train_tokens: "${steps.data.model}",
          num_steps: 10, batch_size: 1, learning_rate: 0.001}
  script: {kind: command, script: echo, inputs: {x: "${steps.train.model}"}}
  small: {kind: compress, model: "${steps.script.outputs}", recipe: w4a16,
          calibration: "${steps.train.curve}"}
  table: {kind: analyze, baseline: a, training_curve: "${steps.small.recipe}",
          variants: {a: {evaluations: [{scores: [], samples: "${steps.train.curve}"}]}}}
"""


def test_artifacts_of_another_kind_than_a_field_takes_are_found_by_validating(tmp_path: Path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    found = problems(tmp_path, CHAIN)
    assert found.keys() == {
        "steps.train.model",
        "steps.train.train_tokens",
        "steps.small.calibration",
        "steps.table.training_curve",
        "steps.table.variants.a.evaluations.0.samples",
    }, "what a script leaves may be anything"
    assert found["steps.train.model"].message == (
        "${steps.data.train_tokens} is an artifact of kind tokens, here belongs one of kind model; "
        "did you mean ${steps.data.model}?"
    )
    assert found["steps.train.model"].line == 3


@pytest.mark.parametrize("kind", STEPS)
def test_a_declared_kind_is_one_that_stands_beside_an_artifact(kind: str):
    step = step_of(kind)
    for model in (step.spec_type, step.result_type):
        for name, info in model.model_fields.items():
            if kind_at(model, (name,)) is not None:
                assert {ArtifactRef} <= set(members_of(info.annotation))


def test_a_deliverable_that_is_no_artifact_is_found_by_validating(tmp_path: Path):
    found = problems(
        tmp_path,
        f"steps:\n  a: {ECHO}\ndeliverables:\n"
        '  - {type: count, artifact: "${steps.a.num_files}"}\n',
    )
    (problem,) = found.values()
    assert problem.key == "deliverables.0.artifact"
    assert problem.line == 4
    assert "artifacts of its step: ${steps.a.outputs}" in problem.message


def test_samples_of_a_test_have_to_be_samples(tmp_path: Path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    found = problems(
        tmp_path,
        "steps:\n  data: {kind: prepare, model: {kind: gguf, file: model.gguf}}\n"
        f"  a: {ECHO}\ndeliverables:\n"
        '  - {type: better, validation: statistical_test, baseline: "${steps.data.model}",\n'
        '     variant: "${steps.a.outputs}"}\n',
    )
    assert found.keys() == {"deliverables.0.baseline"}
    assert "here belongs one of kind samples" in found["deliverables.0.baseline"].message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_steps", "99999999999999999999999", "must be at most 1000000000"),
        ("learning_rate", "1.0e9", "must be at most 100"),
    ],
)
def test_values_out_of_all_reason_are_refused(tmp_path: Path, key: str, value: str, words: str):
    (tmp_path / "m").mkdir()
    fields = {"num_steps": "10", "batch_size": "1", "learning_rate": "0.001", key: value}
    text = ", ".join(f"{name}: {given}" for name, given in fields.items())
    found = problems(tmp_path, f"steps:\n  t: {{kind: train, model: m, train_tokens: m, {text}}}\n")
    assert words in found[f"steps.t.{key}"].message
