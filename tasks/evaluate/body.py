"""Evaluate a model with lm-eval, offline unless told otherwise.

The environment of Hugging Face's libraries is set before any of them is imported: no hub, no
caches of the user's, no code from models or datasets. lm-eval finds task data relative to the
working directory, so the body works in a folder laid out for it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from tasks.artifacts import ArtifactKind
from tasks.body import BodyContext, run_body
from tasks.evaluate.group_table import group_table
from tasks.evaluate.groups import score_groups
from tasks.evaluate.json_lines import clean, write_json, write_json_lines
from tasks.evaluate.scores import averages, score_tasks
from tasks.evaluate.spec import EvaluateResult, EvaluateSpec
from tasks.evaluate.task_folder import own_copy, working_folder
from tasks.model_folder import check_model_folder

TABLE_WIDTH = 140  # characters, in the log
KEPT_RESULTS = (
    "results",
    "groups",
    "group_subtasks",
    "configs",
    "versions",
    "n-shot",
    "higher_is_better",
    "n-samples",
)


def main(spec: EvaluateSpec, context: BodyContext) -> EvaluateResult:
    model_folder = context.path(spec.model)
    check_model_folder(model_folder)
    mirror = context.path(spec.mirror) if spec.mirror else None
    with _scratch(context.out / "scratch") as scratch:
        task_folder = None
        if spec.task_folder:
            task_folder = own_copy(context.path(spec.task_folder), scratch / "tasks")
        sources = [source for source in (task_folder, mirror) if source is not None]
        _shield(scratch, context.checkpoints, allow_hub=spec.allow_hub)
        work = working_folder(scratch / "work", sources)
        os.environ["NLTK_DATA"] = str(work / "nltk_data")  # leaderboard_ifeval cuts sentences
        # Imported here: these read the environment as they load.
        from tasks.evaluate.harness import HARNESS_FOLDER, evaluated_tasks, load_tasks, run
        from tasks.evaluate.models import open_model, refuse_unfit, watch

        refuse_unfit(spec, model_folder)
        with contextlib.chdir(work):
            loaded = load_tasks(spec, task_folder)
        with open_model(spec, model_folder, context.out / "server.log") as model:
            watch(
                model,
                loaded["tasks"].values(),
                lambda done, total: context.metrics(done, num_steps=total),
            )
            with contextlib.chdir(work):
                results = run(spec, model, loaded)
        scores, lines = score_tasks(evaluated_tasks(loaded, results), results)
    groups = score_groups(spec.groups, scores)
    scores += averages(groups, scores)
    if groups:
        Console(width=TABLE_WIDTH).print(group_table(groups))

    places = {"model": model_folder, "tasks": task_folder, "mirror": mirror, "out": context.out}
    places["lm_eval"] = HARNESS_FOLDER
    names = {str(path): f"<{name}>" for name, path in places.items() if path is not None}
    outputs = (
        {"task": task, **clean(sample, names)}
        for task, samples in sorted(results["samples"].items())
        for sample in samples
    )
    kept = {key: clean(results[key], names) for key in KEPT_RESULTS if key in results}
    return EvaluateResult(
        scores=tuple(scores),
        groups=groups,
        samples=context.artifact(
            ArtifactKind.SAMPLES, write_json_lines(context.out / "samples.jsonl", lines)
        ),
        results=context.artifact(
            ArtifactKind.TABLE, write_json(context.out / "results.json", kept)
        ),
        outputs=context.artifact(
            ArtifactKind.FILE, write_json_lines(context.out / "outputs.jsonl", outputs)
        ),
    )


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for caches and links, gone when the body is done."""
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _shield(scratch: Path, checkpoints: Path, *, allow_hub: bool) -> None:
    """Keep Hugging Face's libraries off the network and out of the user's caches.

    What the hub is allowed to send is kept with the checkpoints, so that another attempt does not
    download it again.
    """
    home = (checkpoints if allow_hub else scratch) / "huggingface"
    offline = "0" if allow_hub else "1"
    os.environ.update(
        HF_HOME=str(home),
        HF_DATASETS_CACHE=str(scratch / "datasets"),
        HF_HUB_OFFLINE=offline,
        HF_DATASETS_OFFLINE=offline,
        TRANSFORMERS_OFFLINE=offline,
        HF_DATASETS_TRUST_REMOTE_CODE="0",
        HF_HUB_DISABLE_TELEMETRY="1",
        TOKENIZERS_PARALLELISM="false",
        TQDM_DISABLE="1",  # progress goes to metrics.jsonl, not into the log;
        TQDM_MININTERVAL="60",  # bars that insist are quiet, at least
    )


if __name__ == "__main__":
    run_body(EvaluateSpec, main)
