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
import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks.answer import failure_words, last_lines, read_answer
from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.attempt_logs import AttemptLogs
from tasks.body import METRICS_FILE, REQUEST_FILE
from tasks.body_environment import body_environment
from tasks.contents import artifacts_in, seeds_in
from tasks.environments import core_python
from tasks.errors import StepFailed, StepTimedOut, StoreError
from tasks.gpus import claim_gpus
from tasks.host import NestedStep, refuse_nested, turn
from tasks.metrics import MetricsTail
from tasks.observer import observers, tell_waiting
from tasks.process import Command, Outcome, ProcessEnd, SupervisorLost, run
from tasks.provenance import code_state, provenance
from tasks.relay import Relay
from tasks.scrubbing import Scrubber, own_secrets, typed_secrets
from tasks.settings import settings
from tasks.spec import Placement, Result, Spec
from tasks.store.base import Record, Store

FULL_DISK_BYTES = 1 << 20

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
        logs = AttemptLogs(staging, self._scrubber)
        try:
            return await self._run(staging, accept, logs)
        except asyncio.CancelledError:
            logs.kept()
            raise
        except StepFailed as failure:
            failure.reason = self._scrubber.text(failure.reason)
            failure.logs = logs.kept()
            raise
        except (StoreError, SupervisorLost, NestedStep) as error:
            raise StepFailed(self.plan.step, str(error), logs.kept()) from error
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            reason = f"{error.strerror or error}{where}"
            raise StepFailed(self.plan.step, reason, logs.kept()) from error

    async def _run(self, staging: Path, accept: Accept, logs: AttemptLogs) -> Record:
        home = settings().home
        refuse_nested(home, alone=self.plan.measures)
        inputs = await asyncio.to_thread(self._lay_out, staging)
        async with AsyncExitStack() as stack:
            claim = claim_gpus(self.plan.num_gpus, home, on_wait=tell_waiting)
            gpus = await stack.enter_async_context(claim)
            ours = turn(home, alone=self.plan.measures, on_wait=tell_waiting)
            lock = await stack.enter_async_context(ours)
            tell_waiting(None)
            environment = body_environment(os.environ, self.placement, gpus, home)
            held = [*self.inherited_fds, *(gpu.lease_fd for gpu in gpus), lock]
            for observer in observers():
                observer.started(self.plan.step, self.key)
            started = datetime.now(UTC)
            code = asyncio.get_running_loop().run_in_executor(None, code_state)
            outcome = await self._run_body(staging, environment, held)
        self._refuse_bad_end(staging, outcome)
        circumstances = provenance(
            code=await code,
            versions=self.plan.versions,
            started=started,
            duration_s=outcome.duration_s,
            peak_memory_bytes=outcome.peak_memory_bytes,
            gpus=gpus,
            seeds=dict(seeds_in(self.spec)),
        )
        return await asyncio.to_thread(self._commit, staging, inputs, accept, circumstances, logs)

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
        file = staging / REQUEST_FILE
        file.touch(mode=0o600)
        file.write_text(json.dumps(request))
        return inputs

    # -- during ------------------------------------------------------------------------

    async def _run_body(
        self, staging: Path, environment: Mapping[str, str], held: Sequence[int]
    ) -> Outcome:
        """The body under its supervisor, which holds on to the leases until no process is left."""
        out, logs = staging / "out", staging / "logs"
        argv = (str(core_python()), "-P", "-m", self.plan.body, str(staging / REQUEST_FILE))
        memory_gib = self.placement.memory_gib
        command = Command(
            argv=(*argv, str(out)),
            cwd=out,
            environment=environment,
            stdout=logs / "stdout.txt",
            stderr=logs / "stderr.txt",
            timeout_s=self.placement.timeout_s,
            grace_s=self.placement.grace_s,
            memory_limit_bytes=int(memory_gib * 2**30) if memory_gib else None,
        )
        relay = Relay(MetricsTail(out / METRICS_FILE), self._scrubber)
        try:
            async with relay.running():
                return await run(command, on_line=relay.line, pass_fds=held)
        finally:  # the next attempt writes it anew; it may hold a secret that was typed
            (staging / REQUEST_FILE).unlink(missing_ok=True)

    # -- after -------------------------------------------------------------------------

    def _refuse_bad_end(self, staging: Path, outcome: Outcome) -> None:
        """Say in words why a body that did not exit with 0 ended."""
        step = self.plan.step
        match outcome.end:
            case ProcessEnd.TIMED_OUT:
                raise StepTimedOut(step, f"ran past its deadline of {self.placement.timeout_s:g} s")
            case ProcessEnd.OUT_OF_MEMORY:
                raise StepFailed(step, self._out_of_memory(outcome))
            case ProcessEnd.SIGNALED:
                raise StepFailed(step, f"was killed by {signal_name(outcome.signal)}")
            case ProcessEnd.EXITED if outcome.exit_code != 0:
                said = failure_words(staging / "out", staging / "logs")
                raise StepFailed(step, said or self._in_silence(staging, outcome))

    def _out_of_memory(self, outcome: Outcome) -> str:
        limit_gib, peak_gib = self.placement.memory_gib, outcome.peak_memory_bytes / 2**30
        if limit_gib is not None and peak_gib > limit_gib:
            return f"was killed because it went over its memory limit of {limit_gib:g} GiB"
        return f"was killed because the machine ran out of memory (it held {peak_gib:.2g} GiB)"

    @staticmethod
    def _in_silence(staging: Path, outcome: Outcome) -> str:
        """A body that had no room for its last words did not choose to be silent."""
        is_full = shutil.disk_usage(staging).free < FULL_DISK_BYTES
        why = f"; No space left on device: the disk of {staging} is full" if is_full else ""
        said = "" if is_full else last_lines(staging / "logs" / "stdout.txt")
        return f"exited with status {outcome.exit_code}{why}\n{said}".rstrip()

    def _commit(
        self,
        staging: Path,
        inputs: Mapping[str, Path],
        accept: Accept,
        circumstances: dict[str, Any],
        logs: AttemptLogs,
    ) -> Record:
        """Check the answer, keep what it names, write the record, clear staging."""
        logs.finish()
        try:
            answer = read_answer(staging / "out")
            found = {**inputs, **answer.files}

            def open_(ref: ArtifactRef) -> Path:
                if ref.digest not in found:
                    raise ValueError(f"it names {ref.name}, which the body left out")
                return found[ref.digest]

            result = accept(self.spec, answer.result, open_)
            artifacts = artifacts_in(result)
            for ref in artifacts:
                open_(ref)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            words = str(error) if isinstance(error, ValueError) else repr(error)
            raise StepFailed(self.plan.step, f"its result is unusable: {words}") from error
        for ref in artifacts:
            if ref.digest not in inputs:
                self._keep(ref, found[ref.digest])
        record = self.store.commit(
            Record(
                step=self.plan.step,
                identity=self.key,
                spec=self._scrubber.value(self.spec.model_dump(mode="json")),
                result=result.model_dump(mode="json"),
                artifacts=artifacts,
                logs=self.store.put(logs.folder, ArtifactKind.LOG, self.plan.step),
                provenance=circumstances,
            )
        )
        logs.copy()
        self.store.clear_staging(self.key)
        return record

    def _keep(self, ref: ArtifactRef, path: Path) -> None:
        kept = self.store.put(path, ref.kind, ref.name, move=True)
        if (kept.digest, kept.size_bytes, kept.is_folder) != (
            ref.digest,
            ref.size_bytes,
            ref.is_folder,
        ):
            raise StepFailed(self.plan.step, f"{ref.name} is not what its result says it is")

    @cached_property
    def _scrubber(self) -> Scrubber:
        typed = typed_secrets(self.spec.model_dump(mode="json"))
        return Scrubber(own_secrets(self.placement.environment) | typed)


def signal_name(number: int | None) -> str:
    """`SIGSEGV` for 11; the bare number where it has no name."""
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"
