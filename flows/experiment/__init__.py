"""Experiment files: loaded and checked whole, planned, run, and bundled.

experiment = load_experiment(Path("quickstart.yaml"), ["steps.train.num_steps=100"])
report = await run_experiment(experiment)
"""

from flows.experiment.bundle import make_bundle, unpack_bundle
from flows.experiment.execute import call_directly
from flows.experiment.finish import finish_abandoned
from flows.experiment.folder import RunFolder, all_runs, find_run
from flows.experiment.loading import load_experiment
from flows.experiment.plan import Plan, PlanState, plan
from flows.experiment.progress import Watcher
from flows.experiment.record import DeliverableState, RunReport, RunStatus, StepState, counted
from flows.experiment.run import look_up, resume_experiment, run_experiment
from flows.experiment.sound import Experiment

__all__ = [
    "DeliverableState",
    "Experiment",
    "Plan",
    "PlanState",
    "RunFolder",
    "RunReport",
    "RunStatus",
    "StepState",
    "Watcher",
    "all_runs",
    "call_directly",
    "counted",
    "find_run",
    "finish_abandoned",
    "load_experiment",
    "look_up",
    "make_bundle",
    "plan",
    "resume_experiment",
    "run_experiment",
    "unpack_bundle",
]
