"""What verified reads and identities cost, printed as ratios; no build fails by time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.digests import DIGESTS
from tasks.store.local import LocalStore
from tests.fakes.figures import Figure

CHECKOUT = Path(__file__).parents[2]
SIZE_BYTES = 256 * 1024 * 1024
NUM_SHARDS = 4
NUM_ROUNDS = 3


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def test_verification_keeps_up_with_hashlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Figure
) -> None:
    """One file and a folder of the same size, beside hashlib.file_digest, page cache warm."""
    block = os.urandom(1 << 20)
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(NUM_SHARDS):
        with (shards / f"{number}.safetensors").open("wb") as file:
            for position in range(SIZE_BYTES // NUM_SHARDS // len(block)):
                file.write(bytes([number, position % 256]) + block[2:])
    whole = tmp_path / "whole.safetensors"
    with whole.open("wb") as file:
        for shard in sorted(shards.iterdir()):
            file.write(shard.read_bytes())
    store = LocalStore(tmp_path / "home")
    refs = {
        "one file": store.put(whole, ArtifactKind.FILE, "whole", move=True),
        f"folder of {NUM_SHARDS}": store.put(shards, ArtifactKind.FOLDER, "shards", move=True),
    }
    kept = store.materialize(refs["one file"])

    def hash_with_hashlib() -> None:
        with kept.open("rb") as file:
            hashlib.file_digest(file, "sha256")

    def verify_afresh(ref: ArtifactRef) -> None:
        monkeypatch.setattr(DIGESTS, "_known", {})
        store.verify(ref)

    ratios: dict[str, list[float]] = {name: [] for name in refs}
    rates = []
    for _ in range(NUM_ROUNDS):
        for name, ref in refs.items():
            baseline_s = seconds(hash_with_hashlib)
            ratios[name].append(baseline_s / seconds(lambda ref=ref: verify_afresh(ref)))
            rates.append(SIZE_BYTES / baseline_s / 1e6)
    store.verify(refs["one file"])
    again_s = seconds(lambda: store.verify(refs["one file"]))
    for name, values in ratios.items():
        figure(
            f"verification of {SIZE_BYTES >> 20} MiB, {name}, over hashlib's speed",
            f"{median(values) * median(rates):.0f} MB/s, again {again_s * 1e6:.0f} µs",
            aim="ratio at least 0.9",
            ratio=median(values),
        )
    assert len(DIGESTS._known) == NUM_SHARDS + 1, "what was hashed is remembered"


def test_fingerprints_of_all_bodies(figure: Figure) -> None:
    """First in a fresh process, then again."""
    code = """
import sys, time
from tasks.fingerprint import closure, code_fingerprint
bodies = sys.argv[1:]
started = time.perf_counter()
[code_fingerprint(body) for body in bodies]
first = time.perf_counter()
[code_fingerprint(body) for body in bodies]
again = time.perf_counter()
modules = {name for body in bodies for name in closure(body)}
print(len(modules), first - started, again - first)
"""
    bodies = sorted(
        f"tasks.{path.parent.name}.body" for path in (CHECKOUT / "tasks").glob("*/body.py")
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *bodies], capture_output=True, check=True, cwd=CHECKOUT
    )
    num_modules, first_s, again_s = (float(text) for text in done.stdout.split())
    figure(
        f"fingerprints of {len(bodies)} bodies, {num_modules:.0f} modules",
        f"first {first_s * 1e3:.0f} ms, again {again_s * 1e3:.2f} ms",
    )
    assert num_modules >= len(bodies)
