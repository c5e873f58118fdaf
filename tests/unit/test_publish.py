"""A published model is whole, verified and explained, or it is not there."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.experiment import RunFolder
from flows.experiment.bundle import make_bundle
from flows.experiment.record import RunReport, StepReport, StepState
from flows.publish import choose, measured_of
from flows.publish.measurements import scores_of
from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.errors import Corrupted, EnvironmentMissing, SpecError, StoreError
from tasks.publish import Card, ScoreRow, publish_folder, render_card
from tasks.publish.hub import token_of
from tasks.store import Record, Store, open_store
from tests.fakes import kept_runs
from tests.fakes.quickstart import labwright

TOKEN = "hf_" + "secret0" * 5
NUM_ITEMS = 120


# -- a small run, made by hand -------------------------------------------------------------


class Home:
    """A store with a base, two compressions of it, and evaluations of base and one of them."""

    def __init__(self, folder: Path, scratch: Path):
        self.folder = folder
        self.scratch = scratch
        self.store: Store = open_store(folder)
        self.base = self.model("base", license="apache-2.0")
        self.w8 = self.model("w8")
        self.w4 = self.model("w4")
        records = {
            "data": self.record("prepare", {"model": HUB}, {"model": self.base}),
            "w8": self.compression(self.w8),
            "w4": self.compression(self.w4),
            "before": self.evaluation(self.base, 2.0),
            "after": self.evaluation(self.w8, 2.02),
        }
        self.run = RunFolder.create(folder)
        steps = {
            name: StepReport(kind=one.step, state=StepState.DONE, identity=one.identity)
            for name, one in records.items()
        }
        self.report = RunReport(
            id=self.run.id,
            name="small",
            file="/somewhere/small.yaml",
            overrides=("steps.w8.seed=1",),
            started="2026-01-01T00:00:00Z",
            status="done",
            steps=steps,
        )
        self.run.write(self.report)
        make_bundle(self.run.bundle, {"spec/experiment.yaml": b"steps: {}\n"}, self.run.id)

    def put(self, path: Path, kind: ArtifactKind, name: str) -> dict[str, Any]:
        return self.store.put(path, kind, name).model_dump(mode="json")

    def model(self, name: str, license: str | None = None) -> dict[str, Any]:
        folder = self.scratch / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"name": name}))
        (folder / "model.safetensors").write_bytes(name.encode() * 1000)
        if license:
            (folder / "README.md").write_text(f"---\nlicense: {license}\n---\n# {name}\n")
        return self.put(folder, ArtifactKind.MODEL, "model")

    def record(self, step: str, spec: dict[str, Any], result: dict[str, Any]) -> Record:
        number = len(list(self.scratch.iterdir()))
        (self.scratch / f"record{number}").touch()
        artifacts = [ArtifactRef.model_validate(v) for v in result.values() if _is_ref(v)]
        return self.store.commit(
            Record(
                step=step,
                identity=f"{number:064x}",
                spec=spec,
                result=result,
                artifacts=tuple(artifacts),
                provenance={"versions": {"torch": "2.13.0"}, "host": "secret-host"},
            )
        )

    def compression(self, model: dict[str, Any]) -> Record:
        recipe = self.scratch / "recipe.yaml"
        recipe.write_text("quant_stage: {}\n")
        result = {
            "model": model,
            "recipe": self.put(recipe, ArtifactKind.RECIPE, "recipe.yaml"),
            "scheme": "W8A8 int",
            "format": "int-quantized",
            "size_bytes": 61,
            "base_size_bytes": 100,
            "size_ratio": 0.61,
            "expected_size_ratio": 0.61,
            "num_linear_modules": 7,
            "num_quantized_modules": 7,
        }
        return self.record("compress", {"model": self.base, "seed": 1}, result)

    def evaluation(self, model: dict[str, Any], bits: float) -> Record:
        lines = [
            {
                "task": "text",
                "metric": "bits_per_byte",
                "item": f"{n}",
                "cluster": None,
                "numerator": bits * (10 + n % 7),
                "denominator": 10 + n % 7,
            }
            for n in range(NUM_ITEMS)
        ]
        samples = self.scratch / f"{bits}.jsonl"
        samples.write_text("\n".join(json.dumps(line) for line in lines))
        ref = self.put(samples, ArtifactKind.SAMPLES, "samples.jsonl")
        score = {
            "task": "text",
            "metric": "bits_per_byte",
            "value": bits,
            "num_items": NUM_ITEMS,
            "higher_is_better": False,
        }
        result = {"scores": [score], "samples": ref, "results": ref, "outputs": ref}
        return self.record("evaluate", {"model": model, "tasks": ["text"]}, result)


HUB = {"kind": "hub", "id": "lab/base", "revision": "a" * 40}


def _is_ref(value: Any) -> bool:
    return isinstance(value, dict) and "digest" in value


@pytest.fixture
def small(home: Path, tmp_path: Path) -> Home:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Home(home, scratch)


def front_matter(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    found = yaml.safe_load(front)
    assert isinstance(found, dict)
    return found


def test_a_folder_holds_the_model_and_a_card_that_the_hub_reads(small: Home, tmp_path: Path):
    target = tmp_path / "out" / "w8"
    said = labwright("publish", "latest", "--to", str(target), "--step", "w8", "--json")
    assert said.returncode == 0, said.stderr
    told = json.loads(said.stdout)
    assert (told["step"], told["license"], told["base_model"]) == ("w8", "apache-2.0", "lab/base")
    assert (target / "model.safetensors").read_bytes() == b"w8" * 1000
    card = (target / "README.md").read_text()
    front = front_matter(card)
    assert front["license"] == "apache-2.0"
    assert front["base_model"] == "lab/base"
    assert front["base_model_relation"] == "quantized"
    assert {"labwright", "compress", "int-quantized"} <= set(front["tags"])
    assert "| text/bits_per_byte | 2.02 (2.001 to 2.039) | 2 | 99.0% (98.1–99.9) | 120 |" in card
    assert "labwright run small.yaml --set steps.w8.seed=1" in card
    assert "quant_stage" in card
    assert "torch 2.13.0" in card
    assert (target / "labwright" / "experiment.yaml").read_text() == "steps: {}\n"
    for path in target.rglob("*.*"):
        assert b"secret-host" not in path.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["w8"], "nothing half-made is left"


def test_which_model_is_said_and_never_guessed(small: Home):
    steps = measured_of(small.report, small.store)
    with pytest.raises(SpecError, match=r"made 2 models; add --step: w8 \(compress\), w4"):
        choose(small.report, steps, None)
    with pytest.raises(SpecError, match="no model in a step 'before'"):
        choose(small.report, steps, "before")
    one = {name: step for name, step in steps.items() if name != "w4"}
    assert choose(small.report, one, None).step == "w8"
    with pytest.raises(SpecError, match="finished no step of kind compress or train"):
        choose(small.report, {}, None)


def test_a_card_is_not_written_while_something_of_its_run_cannot_be_read(small: Home):
    step = small.report.steps["after"]
    small.store.set_aside("evaluate", str(step.identity))
    with pytest.raises(StoreError, match=r"cannot be read whole: after: its record .* is gone"):
        measured_of(small.report, small.store)


def right(num_items: int, num_wrong: int) -> list[float]:
    return [0.0] * num_wrong + [1.0] * (num_items - num_wrong)


@pytest.mark.parametrize(
    ("before", "after", "recovery"),
    [
        ({"a": 200, "b": 200}, right(200, 80), r"66\.7% \(\d\d\.\d–\d\d\.\d\)"),
        ({"a": 20, "b": 20}, right(20, 4), r"88\.9% \(no interval\)"),
        ({"a": 20}, right(20, 4), "the two averages are not made of the same tasks in .*"),
    ],
)
def test_an_average_over_tasks_has_its_recovery_or_says_why_not(
    small: Home, before: dict[str, int], after: list[float], recovery: str
):
    answers = {
        "before": {task: right(num_items, num_items // 10) for task, num_items in before.items()},
        "after": {"a": after, "b": after},
    }
    models = {"before": small.base, "after": small.w8}
    run = kept_runs.keep_run(
        {
            name: replace(kept_runs.with_average(given), spec={"model": models[name]})
            for name, given in answers.items()
        }
    )
    report = run.read()
    assert report is not None
    chosen = choose(small.report, measured_of(small.report, small.store), "w8")
    rows = scores_of(chosen, measured_of(report, small.store), small.store)
    (average,) = (row for row in rows if row.metric == "all/average")
    assert re.fullmatch(recovery, average.recovery)


def test_what_was_not_stated_is_not_claimed(small: Home, tmp_path: Path):
    said = labwright("publish", "latest", "--to", str(tmp_path / "out"), "--step", "w4")
    assert said.returncode == 0, said.stderr
    card = (tmp_path / "out" / "README.md").read_text()
    assert "This model was not evaluated." in card
    bare = render_card(Card(title="x", kind="train", summary="A model."))
    assert "license" not in front_matter(bare)
    assert "base_model" not in front_matter(bare)
    assert "licence of the base model was not stated" in bare


@pytest.mark.parametrize("taken", ["file", "folder", "full"])
def test_nothing_is_overwritten(small: Home, tmp_path: Path, taken: str):
    target = tmp_path / "out"
    if taken == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        if taken == "full":
            (target / "mine").write_text("mine")
    model = ArtifactRef.model_validate(small.w8)
    if taken == "folder":
        publish_folder(model, {}, target, small.store)
        assert (target / "config.json").exists()
        return
    with pytest.raises(SpecError, match="name another"):
        publish_folder(model, {}, target, small.store)
    said = labwright("publish", "latest", "--to", str(target), "--step", "w8")
    assert said.returncode == 2
    assert "name another" in said.stderr
    assert "mine" in (target.read_text() if taken == "file" else (target / "mine").read_text())


def test_a_damaged_model_is_not_published_and_leaves_nothing(small: Home, tmp_path: Path):
    model = ArtifactRef.model_validate(small.w8)
    digest = small.store.manifest(model).files[1].sha256
    stored = small.folder / "objects" / digest[:2] / digest
    stored.chmod(0o644)
    stored.write_bytes(b"x" * stored.stat().st_size)
    with pytest.raises(Corrupted):
        publish_folder(model, {}, tmp_path / "there" / "out", small.store)
    there = tmp_path / "there"
    assert not there.exists() or not list(there.iterdir())


def test_bytes_that_change_while_they_are_copied_are_noticed(
    small: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("config.json", "model.safetensors"):
        (other / name).write_text("other")
    monkeypatch.setattr(small.store, "materialize", lambda _: other)
    with pytest.raises(Corrupted, match="manifest"):
        publish_folder(ArtifactRef.model_validate(small.w8), {}, tmp_path / "out", small.store)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out-*"))


def test_the_bases_own_card_is_kept_beside_ours(small: Home, tmp_path: Path):
    base = ArtifactRef.model_validate(small.base)
    publish_folder(base, {"README.md": b"ours"}, tmp_path / "out", small.store)
    assert (tmp_path / "out" / "README.md").read_bytes() == b"ours"
    assert "license: apache-2.0" in (tmp_path / "out" / "README.base.md").read_text()


def test_text_of_others_cannot_break_out_of_the_card():
    row = ScoreRow(metric="a|b/<script>", score="1\n| x |", num_items=1)
    card = render_card(
        Card(
            title="x\n---\nlicense: mit",
            kind="train",
            summary="s",
            scores=(row,),
            recipe="```\n# x",
        )
    )
    assert "license" not in front_matter(card)
    assert "<script>" not in card
    assert "| a\\|b/&lt;script> | 1 \\| x \\| |" in card
    assert "````yaml\n```\n# x\n````" in card


# -- a hub ---------------------------------------------------------------------------------


class FakeHub(BaseHTTPRequestHandler):
    """Takes one repository and its commits, as Hugging Face's API does; remembers what came."""

    server: HubServer

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.requests.append((self.path, dict(self.headers), body))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" or self.server.refuses:
            self.answer(403, {"error": f"the token {TOKEN} may not write"})
        elif self.path == "/api/repos/create":
            self.answer(200, {"url": self.url, "name": "lab/w8", "id": "x"})
        elif self.path.endswith("/preupload/main"):
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif self.path.endswith("/commit/main"):
            self.answer(
                200,
                {
                    "commitOid": "a" * 40,
                    "commitUrl": f"http://{self.headers['Host']}/lab/w8/commit/{'a' * 40}",
                    "success": 1,
                },
            )
        else:
            self.answer(200, {})

    @property
    def url(self) -> str:
        return f"http://{self.headers['Host']}/lab/w8"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers), b""))
        self.answer(200, {"id": "lab/w8", "sha": "b" * 40, "siblings": []})

    def answer(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Silent."""


class HubServer(ThreadingHTTPServer):
    """On a free port of this machine."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHub)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.refuses = False


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def upload(small: Home, hub: HubServer, *more: str) -> Any:
    variables = {
        "HF_TOKEN": TOKEN,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "HF_HOME": str(small.scratch),
    }
    return labwright("publish", "latest", "--to", "lab/w8", "--step", "w8", *more, **variables)


def test_a_hub_gets_one_commit_with_every_file(small: Home, hub: HubServer):
    said = upload(small, hub)
    assert said.returncode == 0, said.stderr
    assert "lab/w8" in said.stdout
    (created,) = [body for path, _, body in hub.requests if path == "/api/repos/create"]
    assert json.loads(created)["visibility"] == "private", "unless --public is said"
    (commit,) = [body for path, _, body in hub.requests if path.endswith("/commit/main")]
    files = {
        line["value"]["path"]
        for line in map(json.loads, commit.splitlines())
        if line["key"] == "file"
    }
    assert files >= {"README.md", "config.json", "model.safetensors", "labwright/provenance.json"}
    assert TOKEN not in said.stdout + said.stderr


def test_a_hub_that_refuses_is_told_in_words_without_the_token(small: Home, hub: HubServer):
    hub.refuses = True
    said = upload(small, hub, "--public")
    assert said.returncode == 1
    assert "the hub did not take lab/w8" in said.stderr
    assert "Traceback" not in said.stderr
    assert TOKEN not in said.stdout + said.stderr


def test_without_a_token_nothing_is_sent_and_what_to_type_is_said(small: Home, tmp_path: Path):
    with pytest.raises(EnvironmentMissing, match="export HF_TOKEN="):
        token_of({})
    said = labwright("publish", "latest", "--to", "hub:lab/w8", "--step", "w8", HF_TOKEN="")
    assert said.returncode == 2
    assert "export HF_TOKEN=" in said.stderr
    assert token_of({"HF_TOKEN": TOKEN}) == TOKEN
    assert os.environ.get("HF_TOKEN") != TOKEN
