"""A research step: a typed function from a Spec to a Result, cached by identity, run in a process.

    compress = research_step(
        name="compress",
        spec=CompressSpec,
        result=CompressResult,
        body="tasks.compress.body",
        packages=("torch", "llmcompressor"),
    )

    result = await compress(CompressSpec(...))              # a Prefect task, inside a flow
    computed = await compress.compute(CompressSpec(...))    # the same without Prefect
    record = compress.lookup(CompressSpec(...))             # only if it was computed before

Order of events: resolve inputs, compute the identity (or refuse), read the verified record, take
the lease, read again, run the body, check, commit. Whatever Prefect does, the store decides.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tasks.attempt import Attempt, BodyPlan
from tasks.environments import installed_version
from tasks.errors import Corrupted, EnvironmentMissing, StoreError
from tasks.identity import code_fingerprint, identity, locked_versions
from tasks.observer import WorkClock, observing, tell_waiting, warn
from tasks.spec import DeviceKind, Placement, Result, Spec, local_device_kind
from tasks.store import open_store
from tasks.store.base import Holder, Record, Store
from tasks.store.inputs import resolve_inputs

if TYPE_CHECKING:
    from prefect import Task

S = TypeVar("S", bound=Spec)
R = TypeVar("R", bound=Result)

Check = Callable[[S, R, Callable[[Any], Path]], None]


@dataclass(frozen=True)
class Computed(Generic[R]):
    """A step's result, with the record that holds it and whether it was there before."""

    result: R
    record: Record
    is_cached: bool
    duration_s: float
    """Of the work: reading what was there, or running the body and keeping what it made."""


@dataclass(frozen=True)
class Step(Generic[S, R]):
    """One kind of research step. Made by `research_step`; see the module's docstring."""

    name: str
    spec_type: type[S]
    result_type: type[R]
    body: str
    packages: tuple[str, ...] = ()
    serve_packages: tuple[str, ...] = ()
    serves: Callable[[S], bool] | None = None
    check: Check[S, R] | None = None
    uses_gpu: bool = False
    measures: bool = False

    # -- what is known without running -------------------------------------------------

    def versions(self, spec: S) -> dict[str, str]:
        """Versions of the packages that matter to a spec, from the locks of their environments."""
        return {
            package if environment == "core" else f"{environment}:{package}": version
            for environment, locked in self._locked(spec).items()
            for package, version in locked.items()
        }

    def _locked(self, spec: S) -> dict[str, dict[str, str]]:
        is_served = self.serves is None or self.serves(spec)
        return {
            "core": locked_versions(self.packages, "core"),
            "serve": locked_versions(self.serve_packages, "serve") if is_served else {},
        }

    def identity(self, spec: S, store: Store | None = None) -> str:
        """sha256 over everything that may change the outcome; inputs are hashed, not kept."""
        return self._identity(resolve_inputs(spec, store or open_store(), keep=False))

    def _identity(self, resolved: S) -> str:
        versions = self.versions(resolved)
        return identity(self.name, resolved, code_fingerprint(self.body), versions)

    def lookup(self, spec: S, store: Store | None = None) -> Record | None:
        """The verified record of an earlier computation; `Corrupted` if it is there and wrong."""
        store = store or open_store()
        return store.read_record(self.name, self.identity(spec, store))

    def result(self, record: Record) -> R:
        """The typed result that a record holds."""
        return self.result_type.model_validate(record.result)

    # -- running -----------------------------------------------------------------------

    async def __call__(
        self,
        spec: S,
        placement: Placement | None = None,
        *,
        wait_for: Iterable[Any] | None = None,
        name: str | None = None,
    ) -> R:
        """Run as a Prefect task, inside a flow; `wait_for` takes upstream results (DAG edges).

        `name` is what the task run is called; by default Prefect makes one up.
        """
        from tasks.prefect_task import call_task

        task = self.task if name is None else self.task.with_options(task_run_name=name)
        result: R = await call_task(task, spec, placement or Placement(), wait_for)
        return result

    @functools.cached_property
    def task(self) -> Task[[S, Placement], Any]:
        """The Prefect task; built on first use, as importing Prefect takes a second."""
        from tasks.prefect_task import prefect_task

        return prefect_task(self)

    async def compute(self, spec: S, placement: Placement | None = None) -> Computed[R]:
        """The step itself: answered from the store, or computed once and committed.

        Raises `StepFailed` (or one of its kinds), `SpecError`, `StoreError`, `EnvironmentMissing`.
        """
        clock = WorkClock()
        placement = placement or Placement()
        store = open_store()
        resolved = await asyncio.to_thread(resolve_inputs, spec, store, True)
        key = self._identity(resolved)
        record, _ = await asyncio.to_thread(self._read, store, key)
        is_cached = record is not None
        if record is None:
            with observing(clock):
                record, is_cached = await self._compute_once(store, key, resolved, placement)
        elif store.has_staging(key):  # whoever computed it was killed before it could clear up
            try:
                async with store.lease(key):
                    await asyncio.to_thread(store.clear_staging, key)
            except StoreError as error:  # the result is there all the same
                warn(str(error))
        return Computed(self.result(record), record, is_cached, clock.seconds)

    async def _compute_once(
        self, store: Store, key: str, resolved: S, placement: Placement
    ) -> tuple[Record, bool]:
        """Under the identity's lease, so that of many callers one runs the body."""
        await asyncio.to_thread(self._refuse_other_versions, resolved)
        async with store.lease(key, on_wait=self._say_who_computes) as lease:
            tell_waiting(None)
            record, damage = await asyncio.to_thread(self._read, store, key)
            if record is not None:
                return record, True
            if damage is not None:
                warn(f"{damage}; computing it again")
                await asyncio.to_thread(store.set_aside, self.name, key)
            attempt = Attempt(
                plan=BodyPlan(
                    step=self.name,
                    body=self.body,
                    num_gpus=self._num_gpus(resolved, placement),
                    measures=self.measures,
                    versions=self.versions(resolved),
                ),
                store=store,
                key=key,
                spec=resolved,
                placement=placement,
                inherited_fds=lease.fds,
            )
            return await attempt.run(functools.partial(self._accept, key)), False

    def _say_who_computes(self, holder: Holder | None) -> None:
        tell_waiting(f"{holder or 'another process'}: it computes the same")

    def _accept(
        self, key: str, spec: Spec, answer: dict[str, Any], open_: Callable[[Any], Path]
    ) -> R:
        """Validate a body's answer and put it through the step's own checks."""
        assert isinstance(spec, self.spec_type)
        if self._identity(spec) != key:
            raise ValueError("the code of the step changed while it ran; run it again")
        result = self.result_type.model_validate(answer)
        if self.check is not None:
            self.check(spec, result, open_)
        return result

    def _read(self, store: Store, key: str) -> tuple[Record | None, Corrupted | None]:
        """The record if it and all its artifacts are intact, else what is wrong with them."""
        try:
            record = store.read_record(self.name, key)
            if record is None:
                return None, None
            for ref in (*record.artifacts, *([record.logs] if record.logs else [])):
                store.verify(ref)
            self.result(record)
        except Corrupted as damage:
            return None, damage
        except ValueError as error:
            return None, Corrupted(
                f"record {self.name}/{key}", f"not a {self.name} result: {error}"
            )
        return record, None

    def _num_gpus(self, spec: S, placement: Placement) -> int:
        """GPUs to claim: those asked for, else one where the step computes on CUDA."""
        if placement.gpus or not self.uses_gpu:
            return placement.gpus
        device_kind = getattr(spec, "device_kind", local_device_kind())
        return int(device_kind is DeviceKind.CUDA)

    def _refuse_other_versions(self, spec: S) -> None:
        """The identity says which versions compute; another version must not answer for them."""
        for environment, versions in self._locked(spec).items():
            for package, locked in versions.items():
                installed = installed_version(package, environment)
                if installed != locked:
                    raise EnvironmentMissing(
                        f"step '{self.name}' is defined with {package} {locked}, but "
                        f"{installed or 'no version'} is installed; type `make setup`"
                    )


def research_step(
    *,
    name: str,
    spec: type[S],
    result: type[R],
    body: str,
    packages: tuple[str, ...] = (),
    serve_packages: tuple[str, ...] = (),
    serves: Callable[[S], bool] | None = None,
    check: Check[S, R] | None = None,
    uses_gpu: bool = False,
    measures: bool = False,
) -> Step[S, R]:
    """Declare a step.

    `packages` (core) and `serve_packages` (serve) are those whose version may change the outcome,
    the latter where `serves(spec)` (by default always); `check` raises ValueError in words if a
    result is unusable; `uses_gpu` claims a GPU where the step computes on CUDA; `measures` runs the
    body alone on its host, as it measures time.
    """
    return Step(
        name=name,
        spec_type=spec,
        result_type=result,
        body=body,
        packages=packages,
        serve_packages=serve_packages,
        serves=serves,
        check=check,
        uses_gpu=uses_gpu,
        measures=measures,
    )


__all__ = ["Computed", "Step", "research_step"]
