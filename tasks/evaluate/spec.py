"""What an evaluation is asked and what it answers: lm-eval's tasks, as typed fields.

    EvaluateSpec(model="runs/model", task_folder="tasks", tasks=("heldout_text", "heldout_choice"))
    EvaluateSpec(model="runs/model", mirror="mirror", tasks=("gsm8k",), num_fewshot=5, limit=200)
    EvaluateSpec(model="runs/model", allow_hub=True, standard="openllm", limit=200)

Where the data of a task comes from is said, never guessed: from the task folder, from a mirror of
hub datasets on disk, or, with `allow_hub`, from the network.

`samples.jsonl`, the artifact behind paired statistics, holds one line per task, metric and item:

    {"task": "heldout_text", "metric": "bits_per_byte", "item": "9f2c…", "cluster": "hamlet.txt",
     "numerator": 812.4, "denominator": 377}

so that every score in it is sum(numerator) / sum(denominator): accuracies have denominator 1, bits
per byte have bits and bytes. `item` is a digest of the item's content, equal for every model;
`cluster` is the item's `source` where it names one. Metrics that are no such ratio (perplexities,
F1, …) are scores only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from tasks.artifacts import ArtifactKind, ArtifactRef, Input, LocalPath
from tasks.evaluate.group_spec import Group, NodeName, shot_conflicts
from tasks.evaluate.groups import GroupScore
from tasks.evaluate.options import Backend, Dtype, Generation, Seeds
from tasks.evaluate.task_folder import problems_of
from tasks.serving.options import ServerDtype, ServerOptions
from tasks.spec import DeviceKind, Frozen, Result, local_device_kind
from tasks.standards import StandardKind
from tasks.standards.use import StandardSpec

# lm-eval's families of tasks that run what a model writes; harness.py asks each task itself too.
CODE_FAMILIES = ("humaneval", "mbpp", "longproc_pseudo_to_code")
RUNS_CODE = (
    "task '{}' runs code that the model writes, and evaluate has no sandbox for it: no setting "
    "allows it; run lm-eval by hand in a container without network"
)

TaskName = Annotated[str, StringConstraints(pattern=r"^[^/\s]+$")]


class EvaluateSpec(StandardSpec):
    """Everything that may change the scores of a model."""

    standard_kind = StandardKind.EVALUATION

    model: Annotated[Input, ArtifactKind.MODEL] = Field(
        description="Model folder in Hugging Face layout."
    )
    tasks: tuple[TaskName, ...] = Field(
        default=(),
        min_length=1,
        description="Names of lm-eval tasks, groups or tags; needed where no standard has them.",
    )
    groups: dict[NodeName, Group] = Field(
        default_factory=dict,
        description="Averages to take, by name: mappings of mappings down to tasks, such as "
        "{metric: acc, num_fewshot: 5, random_score: 0.25}.",
    )
    task_folder: Annotated[Input, ArtifactKind.TASKS] | None = Field(
        default=None,
        description="Folder with task YAML files; their data paths are relative to the folder.",
    )
    mirror: Input | None = Field(
        default=None,
        description="Folder with the datasets of standard tasks by hub name, as in "
        "mirror/openai/gsm8k. All of it is part of the step's identity.",
    )
    allow_hub: bool = Field(
        default=False,
        description="Download datasets from the hub. What it serves is not part of the identity.",
    )
    allow_task_code: bool = Field(
        default=False,
        description="Run Python code that the task folder brings (!function, templates, "
        "metrics of evaluate).",
    )
    backend: Backend = Field(default=Backend.HF, description="What runs the model.")
    num_fewshot: int | None = Field(
        default=None, ge=0, description="Examples before each question; None as the task has it."
    )
    limit: int | None = Field(
        default=None, ge=1, description="First items of each task to use; None is all."
    )
    apply_chat_template: bool = Field(
        default=False, description="Wrap prompts in the tokenizer's chat template."
    )
    fewshot_as_multiturn: bool = Field(
        default=False, description="Few-shot examples as turns of a chat, not as one message."
    )
    system_instruction: str | None = Field(
        default=None, min_length=1, description="System message before each prompt."
    )
    generation: Generation | None = Field(
        default=None, description="Overrides for tasks that generate text."
    )
    seed: int | Seeds = Field(
        default=1234, description="One seed for all of lm-eval's four, or each by name."
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        default=None,
        description="Sequences a batch, by default 8; `auto` finds what fits on the GPU "
        "(hf backend).",
    )
    num_concurrent: int | None = Field(
        default=None,
        ge=1,
        description="Requests in flight to the server, by default 16 (vllm backend).",
    )
    server: ServerOptions | None = Field(
        default=None, description="How the server is set up (vllm backend)."
    )
    max_length: int | None = Field(
        default=None, ge=16, description="Longest sequence in tokens; None as the model's config."
    )
    dtype: Dtype = Field(default=Dtype.AUTO, description="Number format of the model.")
    softmax_dtype: Dtype | None = Field(
        default=None,
        description="Number format of the log-likelihoods, by default float32 (hf backend). "
        "`auto` is the model's: bfloat16 would keep three digits of each token's.",
    )
    add_bos_token: bool | None = Field(
        default=None, description="Begin prompts with the BOS token; None as the tokenizer does."
    )
    disable_thinking: bool = Field(
        default=False, description="Ask the chat template for answers without a reasoning part."
    )
    num_bootstrap: int = Field(
        default=1000, ge=100, description="Resamples where a standard error has no closed form."
    )
    device_kind: DeviceKind = Field(
        default_factory=local_device_kind, description="Kind of device that computes."
    )

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        problems = list(self._conflicts())
        if isinstance(self.task_folder, LocalPath):
            problems += problems_of(
                self.task_folder.path,
                self.tasks,
                has_other_data=self.mirror is not None or self.allow_hub,
                allow_code=self.allow_task_code,
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _conflicts(self) -> Iterator[str]:
        doubled = sorted({name for name in self.tasks if self.tasks.count(name) > 1})
        if doubled:
            yield f"tasks names {', '.join(doubled)} more than once"
        if not self.tasks:
            yield "no tasks: give tasks, or a standard that has them"
        for name in self.tasks:
            own = self.task_folder is not None  # where a task of that name may do no such thing
            if not own and name.startswith(CODE_FAMILIES):
                yield RUNS_CODE.format(name)
        yield from shot_conflicts(self.groups, self.num_fewshot)
        if self.task_folder is None and self.mirror is None and not self.allow_hub:
            yield (
                "no data for the tasks: give task_folder, or mirror for standard tasks, "
                "or set allow_hub: true"
            )
        if self.mirror is not None and self.allow_hub:
            yield "mirror and allow_hub are both set: take the data from one place"
        if self.fewshot_as_multiturn and not self.apply_chat_template:
            yield "fewshot_as_multiturn needs apply_chat_template: true"
        if self.disable_thinking and not self.apply_chat_template:
            yield "disable_thinking needs apply_chat_template: true"
        if self.backend is Backend.HF and self.num_concurrent is not None:
            yield "num_concurrent belongs to backend: vllm; with hf set batch_size"
        if self.backend is Backend.HF and self.server is not None:
            yield "server belongs to backend: vllm"
        if self.server is not None and self.server.max_model_len is not None:
            yield "server.max_model_len follows from max_length: set max_length"
        if self.server is not None and self.server.dtype is not ServerDtype.AUTO:
            yield "server.dtype follows from dtype: set dtype"
        if self.backend is Backend.VLLM and self.batch_size is not None:
            yield "batch_size belongs to backend: hf; vLLM forms its own batches of num_concurrent"
        if self.backend is Backend.VLLM and self.softmax_dtype is not None:
            yield "softmax_dtype belongs to backend: hf; vLLM computes in float32"
        if self.batch_size == "auto" and self.device_kind is DeviceKind.CPU:
            yield "batch_size: auto looks for what fits on a GPU; give a number on cpu"

    @property
    def seeds(self) -> Seeds:
        """The four seeds, however they were given."""
        if isinstance(self.seed, Seeds):
            return self.seed
        return Seeds(python=self.seed, numpy=self.seed, torch=self.seed, fewshot=self.seed)


class ScorePart(Frozen):
    """A task's share of an average: factor * (score - random_score) / (1 - random_score)."""

    task: str = Field(description="Name of the task.")
    metric: str = Field(description="Its metric, with its filter.")
    factor: float = Field(gt=0, description="By which its normalised score is multiplied.")
    random_score: float = Field(default=0.0, ge=0, lt=1, description="What guessing scores.")
    items: str = Field(description="Set of items; parts of the same set may go up together.")
    is_clamped: bool = Field(default=False, description="Below guessing, and counted as 0.")


class Score(Frozen):
    """One number of one task, or of a group of tasks."""

    task: str = Field(description="Name of the task or group.")
    metric: str = Field(description="lm-eval's name of the metric.")
    filter: str = Field(default="none", description="How answers were taken out of the text.")
    value: float = Field(description="The score; always finite.")
    stderr: float | None = Field(
        default=None, ge=0, description="Standard error; None where no method is known."
    )
    num_items: int = Field(ge=1, description="Items that were scored.")
    higher_is_better: bool | None = Field(
        default=None, description="Direction; None where the task does not say."
    )
    num_fewshot: int | None = Field(
        default=None, ge=0, description="Examples before each question; None where they differ."
    )
    parts: tuple[ScorePart, ...] = Field(
        default=(), description="Of an average: what it is made of, where items can be told."
    )

    @property
    def label(self) -> str:
        """The metric as samples.jsonl names it: `exact_match,strict-match`, plain if unfiltered."""
        return metric_label(self.metric, self.filter)


def metric_label(metric: str, filter_name: str) -> str:
    """A metric's name together with its filter, unless that is lm-eval's `none`."""
    return metric if filter_name == "none" else f"{metric},{filter_name}"


class EvaluateResult(Result):
    """Scores with standard errors, and everything that they were computed from."""

    scores: tuple[Score, ...] = Field(
        min_length=1,
        description="All tasks, metrics and lm-eval's groups, and as `average` those of `groups`.",
    )
    groups: tuple[GroupScore, ...] = Field(
        default=(), description="Averages asked for, node by node, each group before its members."
    )
    samples: Annotated[ArtifactRef, ArtifactKind.SAMPLES] = Field(
        description="samples.jsonl: numerator and denominator by item."
    )
    results: ArtifactRef = Field(description="lm-eval's own results and task configs, JSON.")
    outputs: ArtifactRef = Field(description="Every prompt and answer, JSON lines.")

    def score(self, task: str, metric: str, filter_name: str = "none") -> Score:
        """The one score of that name; KeyError names those that exist."""
        for score in self.scores:
            if (score.task, score.metric, score.filter) == (task, metric, filter_name):
                return score
        known = ", ".join(f"{score.task}/{score.label}" for score in self.scores)
        raise KeyError(f"no score {task}/{metric_label(metric, filter_name)}; there are {known}")

    def group(self, path: str) -> GroupScore:
        """One node of the averages, such as leaderboard/bbh; KeyError names those that exist."""
        for node in self.groups:
            if node.path == path:
                return node
        raise KeyError(f"no group {path}; there are {', '.join(node.path for node in self.groups)}")
