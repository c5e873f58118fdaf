"""Experiment files: what is refused before anything runs, and the words and places of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.experiment import Experiment, load_experiment
from tasks.command import CommandSpec
from tasks.errors import Problem, SpecError

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
        *("--lr", "0.1", "--fast"),
    )
    assert experiment.header.metadata == {"who": "me"}
    assert str(experiment.deliverables[0].artifact) == "${steps.training.outputs}"


def test_a_problem_in_a_short_form_keeps_its_line(tmp_path: Path):
    found = problems(tmp_path, "training:\n  script: echo\n  confg: {}\n")
    assert found["steps.training.confg"].line == 3


def test_a_script_that_is_not_there_is_found_out_before_the_run(tmp_path: Path):
    (tmp_path / "train.py").write_text("")
    found = problems(tmp_path, "training: {script: python trian.py}")
    assert "did you mean 'train.py'?" in found["steps.training"].message


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
