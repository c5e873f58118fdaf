"""Run bodies without a store: name inputs by content, call `main` here, or start it as a process.

bench = Workbench(tmp_path)
spec = PrepareSpec(text={"source": bench.ref(folder, ArtifactKind.TEXT)})
result = bench.run(main, spec)
model = bench.path(result.model)        # also an input of the next body
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tasks.artifacts import ArtifactKind, ArtifactRef, describe
from tasks.body import ARTIFACTS_FILE, BodyContext
from tasks.spec import Spec

R = TypeVar("R")


class Workbench:
    """A folder with one sub-folder per run, and every artifact that was seen."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.paths: dict[str, Path] = {}

    def ref(self, path: Path, kind: ArtifactKind = ArtifactKind.FOLDER) -> ArtifactRef:
        ref = describe(path, kind, path.name)
        self.paths[ref.digest] = path
        return ref

    def path(self, ref: ArtifactRef | None) -> Path:
        assert ref is not None
        return self.paths[ref.digest]

    def out(self, name: str) -> Path:
        out = self.folder / name
        out.mkdir(parents=True)
        return out

    def checkpoints(self, name: str) -> Path:
        folder = self.folder / f"{name}-checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def run(
        self,
        main: Callable[[Any, BodyContext], R],
        spec: Spec,
        name: str = "run",
        checkpoints: str | None = None,
    ) -> R:
        """Call a body here; its artifacts become inputs of later runs."""
        out = self.out(name)
        context = BodyContext(
            out,
            self.checkpoints(checkpoints or name),
            {digest: str(path) for digest, path in self.paths.items()},
        )
        result = main(spec, context)
        context.finish(result)  # type: ignore[arg-type]
        listed = json.loads((out / ARTIFACTS_FILE).read_text())
        self.paths |= {digest: out / path for digest, path in listed.items()}
        return result

    def start(self, body: str, spec: Spec, name: str, checkpoints: str) -> subprocess.Popen[bytes]:
        """Start a body as a process of its own, with one thread, to be killed."""
        request = self.folder / f"{name}.json"
        request.write_text(
            json.dumps(
                {
                    "spec": spec.model_dump(mode="json"),
                    "inputs": {digest: str(path) for digest, path in self.paths.items()},
                    "checkpoints": str(self.checkpoints(checkpoints)),
                }
            )
        )
        argv = [sys.executable, "-P", "-m", body, str(request), str(self.out(name))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.Popen(argv, stderr=subprocess.PIPE, env=environment)


def write_corpus(folder: Path, num_documents: int = 120, num_words: int = 80) -> Path:
    """Documents of made-up but regular sentences in three files: enough to learn a little from."""
    import random

    rng = random.Random(0)
    syllables = ["ba", "do", "ki", "lu", "me", "no", "pa", "ri", "su", "te"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(150)]
    folder.mkdir(parents=True)
    for number in range(3):
        documents = []
        for _ in range(num_documents // 3):
            chosen = rng.choices(words, weights=range(len(words), 0, -1), k=num_words)
            lines = [" ".join(chosen[i : i + 16]) + "." for i in range(0, num_words, 16)]
            documents.append("\n".join(lines))
        (folder / f"book{number}.txt").write_text("\n\n".join(documents))
    return folder
