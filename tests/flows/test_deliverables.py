"""Each kind of validation: what it accepts, what it refuses, and the words it finds."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from flows.experiment.checks import Evidence, check
from flows.experiment.deliverables import Deliverables
from flows.experiment.record import DeliverableReport, DeliverableState
from flows.experiment.references import StepReference
from tasks.artifacts import ArtifactKind, ArtifactRef, describe
from tasks.spec import Result


class Found(Result):
    samples: ArtifactRef
    other: ArtifactRef
    loss: float = Field(default=2.5)
    absent: ArtifactRef | None = None


def samples(path: Path, scores: list[int]) -> Path:
    lines = [
        {"task": "t", "metric": "acc", "item": f"{i:03}", "cluster": None,
         "numerator": score, "denominator": 1}
        for i, score in enumerate(scores)
    ]  # fmt: skip
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    folder = tmp_path / "project"
    folder.mkdir()
    paths = {
        name: samples(tmp_path / f"{name}.jsonl", scores)
        for name, scores in (("worse", [0, 1] * 30), ("better", [1] * 60))
    }
    refs = {name: describe(path, ArtifactKind.SAMPLES, path.name) for name, path in paths.items()}
    by_digest = {refs[name].digest: path for name, path in paths.items()}
    result = Found(samples=refs["worse"], other=refs["better"])
    return Evidence({"eval": result}, lambda ref: by_digest[ref.digest], folder)


def look(evidence: Evidence, **fields: Any) -> DeliverableReport:
    (promise,) = Deliverables.model_validate(
        {"deliverables": [{"type": "t", **fields}]}
    ).deliverables
    return check(promise, evidence)


def look_at(
    evidence: Evidence, name: str, content: str | bytes, **fields: Any
) -> DeliverableReport:
    path = evidence.folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return look(evidence, path=name, **fields)


def test_exists_wants_a_byte_or_a_file(evidence: Evidence):
    assert look_at(evidence, "a.bin", "x", validation="exists").state is DeliverableState.DELIVERED
    assert look_at(evidence, "b.bin", "", validation="exists").state is DeliverableState.UNMET
    (evidence.folder / "empty").mkdir()
    assert look(evidence, path="empty", validation="exists").state is DeliverableState.UNMET
    missing = look(evidence, path="a.bni", validation="exists")
    assert missing.state is DeliverableState.MISSING
    assert "did you mean 'a.bin'?" in missing.problems[0]


def test_a_link_that_leads_out_of_the_folder_is_refused(evidence: Evidence):
    (evidence.folder / "out").symlink_to("/etc")
    report = look(evidence, path="out/passwd", validation="exists")
    assert report.state is DeliverableState.UNMET
    assert "leads out" in report.problems[0]


def test_a_step_without_a_result_leaves_its_deliverables_missing(evidence: Evidence):
    for reference in (StepReference("late", ("model",)), StepReference("eval", ("absent",))):
        report = look(evidence, artifact=reference, validation="exists")
        assert report.state is DeliverableState.MISSING


def test_contains_keys_looks_inside_and_names_every_missing_key(evidence: Evidence):
    content = json.dumps({"a": {"b": [{"c": 1}]}, "d.e": 2})
    good = ["a.b.0.c", "d.e"]
    report = look_at(evidence, "m.json", content, validation="contains_keys", required_keys=good)
    assert report.state is DeliverableState.DELIVERED
    bad = ["a.z", "x"]
    report = look_at(evidence, "m.json", content, validation="contains_keys", required_keys=bad)
    assert report.state is DeliverableState.UNMET
    assert report.problems == ("key 'a.z' is missing", "key 'x' is missing")


def test_a_file_that_is_no_json_is_unmet_in_words(evidence: Evidence):
    fields = {"validation": "contains_keys", "required_keys": ["a"]}
    assert "cannot be read" in look_at(evidence, "m.json", "{", **fields).problems[0]
    assert "neither JSON nor YAML" in look_at(evidence, "m.txt", "a", **fields).problems[0]


def safetensors(header: dict[str, Any], data: bytes) -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


TENSOR = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("a.json", b'{"a": 1}', b'{"a": 1'),
        ("a.jsonl", b'{"a": 1}\n{"b": 2}\n', b'{"a": 1}\n{"b"\n'),
        ("a.yaml", b"a: [1]", b"a: [1"),
        ("a.csv", b"a,b\n1,2\n", b"a,b\n1\n"),
        ("a.html", b"<p>hi</p>", b"hi"),
        ("a.md", b"# hi", b"\xff\xfe"),
        ("a.safetensors", safetensors(TENSOR, bytes(8)), safetensors(TENSOR, bytes(7))),
        ("b.safetensors", safetensors({}, b""), b"\xff" * 16),
        ("c.safetensors", safetensors({"__metadata__": {}}, b""), safetensors({"w": 1}, b"")),  # type: ignore[dict-item]
    ],
)
def test_exists_and_loadable_reads_the_format(
    evidence: Evidence, name: str, good: bytes, bad: bytes
):
    fields = {"validation": "exists_and_loadable"}
    assert look_at(evidence, name, good, **fields).state is DeliverableState.DELIVERED
    report = look_at(evidence, name, bad, **fields)
    assert report.state is DeliverableState.UNMET
    assert name in report.problems[0]


def test_a_damaged_zip_is_not_loadable(evidence: Evidence):
    path = evidence.folder / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"hello" * 100)
    assert not look(evidence, path="a.zip", validation="exists_and_loadable").problems
    path.write_bytes(path.read_bytes().replace(b"hello", b"jello", 1))
    assert look(evidence, path="a.zip", validation="exists_and_loadable").problems


def test_a_format_that_nobody_can_load_is_said_to_be_so(evidence: Evidence):
    report = look_at(evidence, "a.bin", "x", validation="exists_and_loadable")
    assert "no way to load 'a.bin'" in report.problems[0]


CONFIG = '{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}'


def test_a_model_folder_needs_weights_and_all_that_its_index_names(evidence: Evidence):
    model = evidence.folder / "model"
    model.mkdir()
    (model / "config.json").write_text(CONFIG)
    fields = {"path": "model", "validation": "exists_and_loadable"}
    assert "has no *.safetensors weights" in look(evidence, **fields).problems[0]
    (model / "model.safetensors").write_bytes(safetensors(TENSOR, bytes(8)))
    assert look(evidence, **fields).state is DeliverableState.DELIVERED
    index = {"weight_map": {"w": "model.safetensors", "v": "b.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "b.safetensors" in look(evidence, **fields).problems[0]


@pytest.mark.parametrize("name", ["out.json", "model/out.json"])
def test_what_is_promised_as_a_model_has_to_be_one(evidence: Evidence, name: str):
    path = evidence.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    fields = {"path": name.partition("/")[0], "validation": "exists_and_loadable"}
    assert look(evidence, **fields).state is DeliverableState.DELIVERED
    report = look(evidence, **fields, type="model")
    assert report.state is DeliverableState.UNMET
    assert "no model" in report.problems[0] or "not a model folder" in report.problems[0]


def test_what_a_step_calls_a_model_is_named_in_words_and_not_by_its_digest(evidence: Evidence):
    kept = evidence.folder / ("f00d" * 16)
    kept.mkdir()
    (kept / "out.json").write_text("{}")
    ref = describe(kept, ArtifactKind.MODEL, "mine")
    found = Evidence({"eval": Found(samples=ref, other=ref)}, lambda _: kept, evidence.folder)
    reference = StepReference("eval", ("samples",))
    report = look(found, artifact=reference, validation="exists_and_loadable")
    assert report.problems == (
        "cannot be loaded as a model: it is not a model folder: it has no config.json",
    )


@pytest.mark.parametrize(
    ("found", "fields", "is_met"),
    [
        ({"a": 1.0}, {"expected": {"a": 1}}, True),
        ({"a": 1.01}, {"expected": {"a": 1}}, False),
        ({"a": 1.01}, {"expected": {"a": 1}, "relative_tolerance": 0.02}, True),
        ({"a": 1, "b": 2}, {"expected": {"a": 1}}, False),
        ({"a": 1, "b": 2}, {"expected": {"a": 1}, "subset": True}, True),
        ({"a": True}, {"expected": {"a": 1}}, False),
        ({"a": "1"}, {"expected": {"a": 1}}, False),
        ({"a": [1, 2]}, {"expected": {"a": [1, 2, 3]}}, False),
        (None, {"expected": None}, True),
    ],
)
def test_matches_expected_compares_values_with_a_tolerance(
    evidence: Evidence, found: Any, fields: dict[str, Any], is_met: bool
):
    report = look_at(evidence, "m.json", json.dumps(found), validation="matches_expected", **fields)
    assert (report.state is DeliverableState.DELIVERED) is is_met


def test_matches_expected_compares_with_a_file(evidence: Evidence):
    fields = {"validation": "matches_expected", "expected_file": "e.json"}
    assert look_at(evidence, "m.json", '{"a": 1}', **fields).state is DeliverableState.MISSING
    (evidence.folder / "e.json").write_text('{"a": 1.0}')
    assert look_at(evidence, "m.json", '{"a": 1}', **fields).state is DeliverableState.DELIVERED


@pytest.mark.parametrize(
    ("operator", "limit", "is_met"),
    [
        (">", 2.4, True), (">", 2.5, False), (">=", 2.5, True), ("<", 2.6, True),
        ("<", 2.5, False), ("<=", 2.5, True), ("==", 2.5, True), ("==", 2.4, False),
    ],
)  # fmt: skip
def test_threshold_compares_a_result_or_a_value_in_a_file(
    evidence: Evidence, operator: str, limit: float, is_met: bool
):
    fields = {"validation": "threshold", "operator": operator, "value": limit}
    reports = [
        look(evidence, metric=StepReference("eval", ("loss",)), **fields),
        look_at(evidence, "m.json", '{"a": {"loss": 2.5}}', metric="a.loss", **fields),
    ]
    assert [report.state is DeliverableState.DELIVERED for report in reports] == [is_met] * 2


@pytest.mark.parametrize("content", ['{"a": "2"}', '{"a": true}', '{"a": null}', '{"a": NaN}'])
def test_what_is_no_number_meets_no_threshold(evidence: Evidence, content: str):
    fields = {"validation": "threshold", "operator": "<", "value": 100, "metric": "a"}
    report = look_at(evidence, "m.json", content, **fields)
    assert report.state is DeliverableState.UNMET


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.md", "# Results #\n\n```\n# Code\n```\n\nMethods\n-------\n"),
        ("a.html", "<h1>Results</h1><p># Code</p><h3><b>Meth</b>ods</h3>"),
    ],
)
def test_contains_sections_looks_for_headings_outside_of_code(
    evidence: Evidence, name: str, content: str
):
    fields = {"validation": "contains_sections"}
    assert not look_at(evidence, name, content, sections=["results", "Methods"], **fields).problems
    report = look_at(evidence, name, content, sections=["Code", "Result"], **fields)
    assert report.problems == (
        "section 'Code' is missing",
        "section 'Result' is missing; did you mean 'Results'?",
    )


@pytest.mark.parametrize(
    ("alternative", "is_met"), [("greater", True), ("two-sided", True), ("less", False)]
)
def test_statistical_test_supports_a_claim_only_if_it_is_true(
    evidence: Evidence, alternative: str, is_met: bool
):
    report = look(
        evidence,
        validation="statistical_test",
        baseline=StepReference("eval", ("samples",)),
        variant=StepReference("eval", ("other",)),
        alternative=alternative,
    )
    assert (report.state is DeliverableState.DELIVERED) is is_met


def test_a_line_of_samples_ends_where_the_file_has_it_end(evidence: Evidence):
    sides = {}
    for name in ("samples", "other"):
        ref = getattr(evidence.results["eval"], name)
        sides[ref.digest] = evidence.folder / f"{name}-wide.jsonl"
        text = evidence.materialize(ref).read_text(encoding="utf-8")
        sides[ref.digest].write_text(text.replace('"t"', '"t\u2028"'), encoding="utf-8")
        assert "\u2028" in sides[ref.digest].read_text(encoding="utf-8")
    report = look(
        Evidence(evidence.results, lambda ref: sides[ref.digest], evidence.folder),
        validation="statistical_test",
        baseline=StepReference("eval", ("samples",)),
        variant=StepReference("eval", ("other",)),
        alternative="greater",
    )
    assert report.problems == ()


def test_a_metric_that_is_not_there_is_named(evidence: Evidence):
    report = look(
        evidence,
        validation="statistical_test",
        baseline=StepReference("eval", ("samples",)),
        variant=StepReference("eval", ("other",)),
        metric="f1",
    )
    assert report.state is DeliverableState.UNMET
    assert "there are t/acc" in report.problems[0]


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "content", "fields"),
    [
        ("deep.json", DEEP, {"validation": "exists_and_loadable"}),
        ("deep.json", DEEP, {"validation": "contains_keys", "required_keys": ["a"]}),
        ("deep.json", DEEP, {"validation": "matches_expected", "expected": 1}),
        ("deep.jsonl", DEEP, {"validation": "exists_and_loadable"}),
        ("list.json", "[1]", {"validation": "contains_keys", "required_keys": ["a.b"]}),
    ],
)
def test_contents_that_nobody_would_write_are_unmet_in_words(
    evidence: Evidence, name: str, content: str, fields: dict[str, Any]
):
    report = look_at(evidence, name, content, **fields)
    assert report.state is DeliverableState.UNMET
    assert report.problems[0]


@pytest.mark.parametrize("index", ["[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "3"])
def test_an_index_of_weights_that_is_none_is_said_to_be_so(evidence: Evidence, index: str):
    folder = evidence.folder / "model"
    folder.mkdir()
    (folder / "config.json").write_text(CONFIG)
    (folder / "model.safetensors.index.json").write_text(index)
    report = look(evidence, path="model", validation="exists_and_loadable")
    assert report.state is DeliverableState.UNMET
    assert "has no weight_map" in report.problems[0]


@pytest.mark.parametrize("line", ["{}", "[]", "3", DEEP])
def test_samples_that_are_none_are_said_to_be_so(evidence: Evidence, line: str):
    digest = evidence.results["eval"].samples.digest  # type: ignore[attr-defined]
    odd = evidence.folder / "odd.jsonl"
    odd.write_text(line)
    worse = evidence.materialize

    def materialize(ref: ArtifactRef) -> Path:
        return odd if ref.digest == digest else worse(ref)

    report = look(
        Evidence(evidence.results, materialize, evidence.folder),
        validation="statistical_test",
        baseline=StepReference("eval", ("samples",)),
        variant=StepReference("eval", ("other",)),
    )
    assert report.state is DeliverableState.UNMET
    assert report.problems[0].startswith("${steps.eval.samples}: ")
    assert "cannot be checked" not in report.problems[0]


def test_what_nobody_foresaw_is_unmet_in_words(evidence: Evidence):
    def stumble(_: ArtifactRef) -> Path:
        raise KeyError("surprise")

    report = look(
        Evidence(evidence.results, stumble, evidence.folder),
        validation="exists",
        artifact=StepReference("eval", ("samples",)),
    )
    assert report.state is DeliverableState.UNMET
    assert report.problems == ("cannot be checked: KeyError: 'surprise'",)
