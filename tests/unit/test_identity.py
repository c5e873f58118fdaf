"""An identity is the same for the same computation, everywhere, and another for any other one."""

from __future__ import annotations

import inspect
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from tasks import environments
from tasks.artifacts import ArtifactKind, ArtifactRef, Input, LocalPath, describe
from tasks.canonical import canonical_json
from tasks.errors import EnvironmentMissing, SpecError
from tasks.evaluate import EvaluateSpec, evaluate
from tasks.evaluate.options import Backend
from tasks.identity import identity, locked_versions
from tasks.spec import Frozen, Placement, Spec
from tasks.store.inputs import resolve_inputs
from tasks.store.local import LocalStore


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Frozen):
    rate: float = Field(description="A number.")
    source: Input | None = Field(default=None, description="A nested input.")


class SampleSpec(Spec):
    name: str = Field(default="", description="A text.")
    rate: float = Field(default=0.5, description="A number.")
    count: int = Field(default=1, description="A whole number.")
    colour: Colour = Field(default=Colour.RED, description="A choice.")
    tags: frozenset[str] = Field(default=frozenset(), description="A set.")
    table: dict[str, float] = Field(default_factory=dict, description="A mapping.")
    inner: tuple[Inner, ...] = Field(default=(), description="Nested models.")
    data: Input | None = Field(default=None, description="An input.")


VERSIONS = {"torch": "2.13.0"}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
FIELDS = st.fixed_dictionaries(
    {
        "name": TEXTS,
        "rate": FLOATS,
        "count": st.integers(),
        "colour": st.sampled_from(Colour),
        "tags": st.frozensets(TEXTS, max_size=6),
        "table": st.dictionaries(TEXTS, FLOATS, max_size=6),
        "inner": st.lists(st.builds(Inner, rate=FLOATS), max_size=3).map(tuple),
    }
)


def identity_of(spec: Spec, step: str = "sample", code: str = "c0de", **changed: Any) -> str:
    return identity(step, spec, code, {**VERSIONS, **changed})


def ref(digest: str = "a", **changed: Any) -> ArtifactRef:
    fields = {"kind": ArtifactKind.FILE, "digest": digest * 64, "size_bytes": 3, "name": "x.txt"}
    return ArtifactRef(**{**fields, **changed})


# -- it stays the same -----------------------------------------------------------------


@given(FIELDS, st.randoms(use_true_random=False))
def test_order_of_dicts_and_sets_does_not_count(fields: dict[str, Any], rng: random.Random) -> None:
    shuffled = dict(fields)
    for name in ("tags", "table"):
        items = list(fields[name].items() if name == "table" else fields[name])
        rng.shuffle(items)
        shuffled[name] = dict(items) if name == "table" else frozenset(items)
    keys = list(shuffled)
    rng.shuffle(keys)
    shuffled = {key: shuffled[key] for key in keys}
    assert identity_of(SampleSpec(**fields)) == identity_of(SampleSpec(**shuffled))


@given(FIELDS)
def test_identity_survives_the_way_through_json(fields: dict[str, Any]) -> None:
    spec = SampleSpec(**fields)
    again = SampleSpec.model_validate_json(spec.model_dump_json())
    assert identity_of(again) == identity_of(spec)


SCRIPT = """
import json, sys
import tasks
sys.path.insert(0, sys.argv[1])
from tests.unit.test_identity import SampleSpec
from tasks.identity import code_fingerprint, identity
specs = [SampleSpec.model_validate(item) for item in json.load(sys.stdin)]
code = code_fingerprint("tasks.train.body")
print(tasks.__file__)
print(json.dumps([identity("sample", spec, code, {"torch": "2"}) for spec in specs]))
"""


def test_processes_hash_seeds_and_checkouts_agree(tmp_path: Path) -> None:
    rng = random.Random(7)
    words = ["alpha", "beta", "gamma", "δ", "epsilon", "z"]
    specs = [
        {
            "rate": rng.uniform(-1e9, 1e9),
            "tags": rng.sample(words, k=4),
            "table": {word: rng.random() for word in rng.sample(words, k=4)},
            "data": json.loads(ref(rng.choice("abc")).model_dump_json()),
        }
        for _ in range(40)
    ]
    checkout = Path(__file__).parents[2]
    copy = tmp_path / "elsewhere"
    shutil.copytree(
        checkout / "tasks", copy / "tasks", ignore=shutil.ignore_patterns("__pycache__")
    )
    answers = set()
    for seed, folder in ((1, checkout), (2, checkout), (3, copy)):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(checkout)],
            input=json.dumps(specs),
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=True,
        )
        imported_from, answer = done.stdout.splitlines()
        assert Path(imported_from).is_relative_to(folder)
        answers.add(answer)
    assert len(answers) == 1


PLACES = st.lists(
    st.text(st.characters(categories=["L", "N"], include_characters=" .-_"), min_size=1, max_size=8)
    .filter(lambda name: name.strip("."))
    .map(lambda name: f"p{name}"),
    min_size=1,
    max_size=3,
)
FILES = st.dictionaries(st.sampled_from(["a.txt", "b.txt", "deep/c.txt"]), TEXTS, min_size=1)


@given(FILES, PLACES, PLACES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_and_places_of_files_do_not_count(
    tmp_path: Path, files: dict[str, str], here: list[str], there: list[str]
) -> None:
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    store = LocalStore(root / "home")
    identities = set()
    for top, place in (("one", here), ("other", there)):
        folder = root.joinpath(top, *place)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        single = folder / next(iter(files))
        spec = SampleSpec(
            data=LocalPath(path=folder),
            inner=(Inner(rate=1, source=LocalPath(path=single)),),
        )
        for keep in (False, True):
            identities.add(identity_of(resolve_inputs(spec, store, keep)))
    assert len(identities) == 1


def test_placement_cannot_enter() -> None:
    assert not {"placement", "gpus", "timeout_s", "pool"} & set(Spec.model_fields)
    with pytest.raises(ValueError, match="extra"):
        SampleSpec.model_validate({"placement": Placement(gpus=2)})


# -- it changes ------------------------------------------------------------------------


@given(FIELDS, FIELDS)
def test_two_specs_share_an_identity_only_if_they_are_equal(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    one, two = SampleSpec(**first), SampleSpec(**second)
    is_same_json = canonical_json(one) == canonical_json(two)
    assert (identity_of(one) == identity_of(two)) == is_same_json
    if is_same_json:
        assert one == two


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(FIELDS, st.sampled_from(sorted(SampleSpec.model_fields)), st.data())
def test_every_field_counts(fields: dict[str, Any], name: str, data: st.DataObject) -> None:
    spec = SampleSpec(**fields)
    if name == "data":
        changed = spec.model_copy(update={"data": ref()})
    else:
        other = data.draw(FIELDS.map(lambda drawn: drawn[name]).filter(lambda v: v != fields[name]))
        changed = SampleSpec(**{**fields, name: other})
    assert identity_of(changed) != identity_of(spec)


NAMES = st.text("abcdefgh-_", min_size=1, max_size=6)
RELEASES = st.dictionaries(
    NAMES, st.from_regex(r"[0-9]{1,2}\.[0-9]{1,2}", fullmatch=True), max_size=3
)
CODES = st.text("0123456789abcdef", min_size=1, max_size=8)


@given(
    st.tuples(NAMES, CODES, RELEASES),
    st.tuples(NAMES, CODES, RELEASES),
    st.randoms(use_true_random=False),
)
def test_step_code_and_versions_count_and_the_order_of_versions_does_not(
    one: tuple[str, str, dict[str, str]],
    other: tuple[str, str, dict[str, str]],
    rng: random.Random,
) -> None:
    spec = SampleSpec()

    def of(step: str, code: str, versions: dict[str, str]) -> str:
        shuffled = rng.sample(sorted(versions.items()), k=len(versions))
        return identity(step, spec, code, dict(shuffled))

    assert (of(*one) == of(*other)) == (one == other)
    assert of(*one) == of(*one)
    for index in range(3):  # one alone that differs is enough
        mixed = (*one[:index], other[index], *one[index + 1 :])
        assert (of(*mixed) == of(*one)) == (one[index] == other[index])  # type: ignore[arg-type]


@given(
    st.builds(
        Placement,
        gpus=st.integers(0, 8),
        timeout_s=st.none() | st.floats(1, 1e6),
        environment=st.dictionaries(st.sampled_from(["A", "LABWRIGHT_HOME", "B"]), st.just("x")),
    )
)
def test_no_placement_changes_what_a_step_is_asked_for(placement: Placement) -> None:
    assert placement.model_fields_set
    signature = inspect.signature(type(evaluate).identity)
    assert list(signature.parameters) == ["self", "spec", "store"]
    with pytest.raises(ValueError, match="extra"):
        SampleSpec.model_validate(placement.model_dump())


def test_content_of_an_artifact_counts_and_its_name_does_not() -> None:
    base = identity_of(SampleSpec(data=ref()))
    assert identity_of(SampleSpec(data=ref(name="y.txt", size_bytes=4))) == base
    assert identity_of(SampleSpec(data=ref("b"))) != base
    assert identity_of(SampleSpec(data=ref(kind=ArtifactKind.TEXT))) != base
    assert identity_of(SampleSpec(data=ref(is_folder=True))) != base


@given(position=st.integers(0, 99), bit=st.integers(0, 7))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_bit_of_an_input_counts(tmp_path: Path, position: int, bit: int) -> None:
    store = LocalStore(tmp_path / "home")
    path = tmp_path / "input.bin"
    spec = SampleSpec(data=LocalPath(path=path))
    path.write_bytes(bytes(100))
    before = identity_of(resolve_inputs(spec, store, keep=False))
    changed = bytearray(100)
    changed[position] = 1 << bit
    path.write_bytes(changed)
    assert identity_of(resolve_inputs(spec, store, keep=False)) != before


def test_renaming_a_file_within_an_input_folder_counts(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "home")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("words")
    spec = SampleSpec(data=LocalPath(path=folder))
    before = identity_of(resolve_inputs(spec, store, keep=False))
    (folder / "a.txt").rename(folder / "b.txt")
    assert identity_of(resolve_inputs(spec, store, keep=False)) != before


# -- it is refused ---------------------------------------------------------------------


class Anything(Spec):
    value: Any = Field(description="Whatever.")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "spec.value: nan is not a finite number"),
        ({"a": [1.0, float("inf")]}, r"spec.value.a\[1\]: inf is not a finite number"),
        (b"bytes", "spec.value: bytes has no canonical JSON"),
        (object(), "object has no canonical JSON"),
        ("\ud800", "not valid Unicode"),
        ({1: "a", "1": "b"}, "two keys are both written as '1'"),
        ({(1, 2): "a"}, "is no text"),
        (LocalPath(path=Path("/data")), "was not resolved to an artifact"),
    ],
)
def test_what_has_no_identity_is_refused_by_name(value: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        identity_of(Anything.model_construct(value=value))


def test_canonical_json_is_what_it_is() -> None:
    value = {"b": {3, 1}, "a": (0.1, -0.0, 1, 1.0, None, True), "ü": Colour.BLUE, 3: Path("a/b")}
    expected = '{"3":"a/b","a":[0.1,-0.0,1,1.0,null,true],"b":[1,3],"ü":"blue"}'
    assert canonical_json(value) == expected.encode()


def test_another_vllm_changes_what_it_serves_and_no_evaluation_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = describe(tmp_path, ArtifactKind.MODEL, "model")
    specs = {
        backend: EvaluateSpec(model=model, mirror=model, tasks=("gsm8k",), backend=backend)
        for backend in Backend
    }
    store = LocalStore(tmp_path / "home")
    before = {backend: evaluate.identity(spec, store) for backend, spec in specs.items()}
    locked = environments.read_lock

    def other_vllm(environment: str) -> Mapping[str, str]:
        return {**locked(environment), **({"vllm": "99"} if environment == "serve" else {})}

    monkeypatch.setattr(environments, "read_lock", other_vllm)
    after = {backend: evaluate.identity(spec, store) for backend, spec in specs.items()}
    assert after[Backend.HF] == before[Backend.HF]
    assert after[Backend.VLLM] != before[Backend.VLLM]


def test_locked_versions_have_no_local_part(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = {"torch": "2.13.0+cpu", "compressed-tensors": "0.19.0"}
    monkeypatch.setattr("tasks.environments.read_lock", lambda _: lock)
    found = locked_versions(("torch", "Compressed_Tensors"))
    assert found == {"torch": "2.13.0", "Compressed_Tensors": "0.19.0"}
    with pytest.raises(EnvironmentMissing, match="'torhc'; did you mean 'torch'"):
        locked_versions(("torhc",))
