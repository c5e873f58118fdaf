"""One attempt to run a body: lay out its inputs, run it, read its answer, commit what it made.

Everything happens in the identity's staging folder, under its lease:

    staging/<identity>/request.json    the spec and the verified path of each input
                       out/            the body's own folder; wiped before each attempt
                       checkpoints/    kept until the step is committed, for a body that can resume
                       logs/           stdout.txt, stderr.txt, metrics.jsonl

A body that fails leaves staging behind for a look; a committed one removes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.artifacts import ArtifactKind
from tasks.body import ARTIFACTS_FILE, ERROR_FILE, METRICS_FILE, RESULT_FILE
from tasks.contents import artifacts_in, seeds_in
from tasks.environments import core_python
from tasks.errors import StepFailed, StepTimedOut
from tasks.gpus import ClaimedGpu, claim_gpus, visible_devices
from tasks.host import compute_turn, measure_turn
from tasks.metrics import MetricsTail
from tasks.observer import observers
from tasks.process import Command, Outcome, ProcessEnd, SupervisorLost, run
from tasks.provenance import provenance
from tasks.relay import Relay
from tasks.settings import settings
from tasks.spec import Placement, Result, Spec
from tasks.store.base import Record, Store

NUM_LAST_LINES = 5  # of stderr, quoted when a body ends without words of its own

Accept = Callable[[Spec, dict[str, Any], Callable[[Any], Path]], Result]


@dataclass(frozen=True)
class BodyPlan:
    """What a step says about how its body runs."""

    step: str
    body: str
    num_gpus: int
    measures: bool
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Attempt:
    """One run of a body for one identity; the caller holds the lease."""

    plan: BodyPlan
    store: Store
    key: str
    spec: Spec
    placement: Placement
    inherited_fds: tuple[int, ...] = ()

    async def run(self, accept: Accept) -> Record:
        """Run the body and commit its result; raises `StepFailed` with the reason and the logs."""
        staging = self.store.staging(self.key)
        try:
            return await self._run(staging, accept)
        except StepFailed as failure:
            failure.logs = self._keep_logs(staging)
            raise
        except SupervisorLost as error:
            raise StepFailed(self.plan.step, str(error), self._keep_logs(staging)) from error
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            reason = f"{error.strerror or error}{where}"
            raise StepFailed(self.plan.step, reason, self._keep_logs(staging)) from error

    async def _run(self, staging: Path, accept: Accept) -> Record:
        inputs = await asyncio.to_thread(self._lay_out, staging)
        for observer in observers():
            observer.started(self.plan.step, self.key)
        async with AsyncExitStack() as stack:
            gpus = await stack.enter_async_context(claim_gpus(self.plan.num_gpus, settings().home))
            held = [*self.inherited_fds, *(gpu.lease_fd for gpu in gpus)]
            if not gpus:
                turn = measure_turn if self.plan.measures else compute_turn
                held.append(await stack.enter_async_context(turn(settings().home)))
            started, clock = datetime.now(UTC), time.monotonic()
            outcome = await self._run_body(staging, self._environment(gpus), held)
        self._refuse_bad_end(staging, outcome)
        circumstances = await asyncio.to_thread(
            provenance,
            versions=self.plan.versions,
            started=started,
            duration_s=time.monotonic() - clock,
            peak_memory_bytes=outcome.peak_memory_bytes,
            gpus=tuple(gpu.uuid for gpu in gpus),
            seeds=dict(seeds_in(self.spec)),
        )
        return await asyncio.to_thread(self._commit, staging, inputs, accept, circumstances)

    # -- before ------------------------------------------------------------------------

    def _lay_out(self, staging: Path) -> dict[str, Path]:
        """Verify and lay out the inputs, clear what an earlier attempt left; write the request."""
        inputs = {ref.digest: self.store.materialize(ref) for ref in artifacts_in(self.spec)}
        for folder in (staging / "out", staging / "logs"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        (staging / "checkpoints").mkdir(exist_ok=True)
        request = {
            "spec": self.spec.model_dump(mode="json"),
            "inputs": {digest: str(path) for digest, path in inputs.items()},
            "checkpoints": str(staging / "checkpoints"),
        }
        (staging / "request.json").write_text(json.dumps(request))
        return inputs

    def _environment(self, gpus: tuple[ClaimedGpu, ...]) -> dict[str, str]:
        """The parent's variables without Prefect's, the placement's, and exactly its GPUs."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        environment |= self.placement.environment
        environment |= visible_devices(gpus)
        environment |= {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
        return environment

    # -- during ------------------------------------------------------------------------

    async def _run_body(
        self, staging: Path, environment: Mapping[str, str], held: Sequence[int]
    ) -> Outcome:
        """The body under its supervisor, which holds on to the leases until no process is left."""
        out = staging / "out"
        argv = (str(core_python()), "-P", "-m", self.plan.body, str(staging / "request.json"))
        command = Command(
            argv=(*argv, str(out)),
            cwd=out,
            environment=environment,
            stdout=staging / "logs" / "stdout.txt",
            stderr=staging / "logs" / "stderr.txt",
            timeout_s=self.placement.timeout_s,
        )
        relay = Relay(MetricsTail(out / METRICS_FILE))
        ticking = asyncio.create_task(relay.tick())
        try:
            return await run(command, on_line=relay.line, pass_fds=held)
        finally:
            ticking.cancel()
            await relay.flush()

    # -- after -------------------------------------------------------------------------

    def _refuse_bad_end(self, staging: Path, outcome: Outcome) -> None:
        """Say in words why a body that did not exit with 0 ended."""
        step = self.plan.step
        match outcome.end:
            case ProcessEnd.TIMED_OUT:
                raise StepTimedOut(step, f"ran past its deadline of {self.placement.timeout_s:g} s")
            case ProcessEnd.OUT_OF_MEMORY:
                raise StepFailed(step, "was killed because the machine ran out of memory")
            case ProcessEnd.SIGNALED:
                raise StepFailed(step, f"was killed by {signal_name(outcome.signal)}")
            case ProcessEnd.EXITED if outcome.exit_code != 0:
                said = _own_words(staging / "out" / ERROR_FILE)
                last = said or _last_lines(staging / "logs" / "stderr.txt")
                raise StepFailed(step, last or f"exited with status {outcome.exit_code}")

    def _commit(
        self,
        staging: Path,
        inputs: Mapping[str, Path],
        accept: Accept,
        circumstances: dict[str, Any],
    ) -> Record:
        """Check the answer, keep what it names, write the record, clear staging."""
        out = staging / "out"
        made = self._made_artifacts(out)
        try:
            result = accept(
                self.spec,
                _read_json(out / RESULT_FILE),
                lambda ref: made[ref.digest] if ref.digest in made else inputs[ref.digest],
            )
        except FileNotFoundError as error:
            raise StepFailed(self.plan.step, "exited with 0 but left no result") from error
        except ValueError as error:
            raise StepFailed(self.plan.step, f"its result is unusable: {error}") from error
        artifacts = artifacts_in(result)
        for ref in artifacts:
            if ref.digest in inputs:
                continue
            if ref.digest not in made:
                raise StepFailed(self.plan.step, f"its result names {ref.name}, which it left out")
            kept = self.store.put(made[ref.digest], ref.kind, ref.name, move=True)
            if kept.digest != ref.digest:
                raise StepFailed(self.plan.step, f"{ref.name} changed while the step was ending")
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(out / METRICS_FILE, staging / "logs" / METRICS_FILE)
        self._copy_logs(staging)
        record = self.store.commit(
            Record(
                step=self.plan.step,
                identity=self.key,
                spec=self.spec.model_dump(mode="json"),
                result=result.model_dump(mode="json"),
                artifacts=artifacts,
                logs=self.store.put(staging / "logs", ArtifactKind.LOG, self.plan.step),
                provenance=circumstances,
            )
        )
        shutil.rmtree(staging, ignore_errors=True)
        return record

    def _made_artifacts(self, out: Path) -> dict[str, Path]:
        """Digest to path of what the body says it made; nothing outside of `out` is accepted."""
        try:
            listed = _read_json(out / ARTIFACTS_FILE)
        except FileNotFoundError:
            return {}
        made = {digest: (out / path).resolve() for digest, path in listed.items()}
        for path in made.values():
            if not path.is_relative_to(out.resolve()):
                raise StepFailed(self.plan.step, f"named a file outside of its folder: {path}")
        return made

    def _keep_logs(self, staging: Path) -> Path:
        """Copy the logs to whoever watches; returns where a person should look."""
        return self._copy_logs(staging) or staging / "logs"

    def _copy_logs(self, staging: Path) -> Path | None:
        copy = None
        for observer in observers():
            if observer.log_folder is not None and (staging / "logs").is_dir():
                copy = observer.log_folder
                shutil.copytree(staging / "logs", copy, dirs_exist_ok=True)
        return copy


def _read_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{path.name} holds {constant}, which is not a number")

    return json.loads(path.read_bytes(), parse_constant=refuse)


def _own_words(path: Path) -> str | None:
    """The message of the exception that ended the body."""
    try:
        return str(_read_json(path)["message"])
    except (OSError, ValueError, KeyError):
        return None


def _last_lines(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-NUM_LAST_LINES:])


def signal_name(number: int | None) -> str:
    """`SIGSEGV` for 11; the bare number where it has no name."""
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"
