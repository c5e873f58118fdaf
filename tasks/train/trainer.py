"""The training loop: AdamW on a causal language model, one device, resumable at every checkpoint.

A step is a function of the state before it: which sequences and which learning rate follow from the
step's number (schedule.py), the rest is in the checkpoint (state.py).

    trainer = Trainer(spec, context, model, train_tokens, validation_tokens)
    trainer.resume(say=print)
    trainer.train()
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its customary name)

from tasks.body import BodyContext
from tasks.train import checkpoint as checkpoints
from tasks.train import state
from tasks.train.checkpoint import Checkpoint
from tasks.train.curve import Curve
from tasks.train.model import decay_groups, weights
from tasks.train.schedule import learning_rate, sequence_indices
from tasks.train.spec import Precision, TrainSpec
from tasks.train.throughput import flops_per_token, speed


class DivergenceError(RuntimeError):
    """The loss or the gradient is no longer a finite number."""


class Trainer:
    """A run in progress: model, optimizer, and the number of steps done."""

    def __init__(
        self,
        spec: TrainSpec,
        context: BodyContext,
        model: Any,
        train_tokens: torch.Tensor,
        validation_tokens: torch.Tensor | None,
    ):
        self.spec = spec
        self.context = context
        self.model = model
        self.device: torch.device = model.device
        self.forward = torch.compile(model) if spec.compile else model
        self.train_tokens = train_tokens
        self.validation_tokens = validation_tokens
        self.optimizer = torch.optim.AdamW(
            decay_groups(model, spec.weight_decay),
            lr=spec.learning_rate,
            betas=(spec.beta1, spec.beta2),
            eps=spec.epsilon,
            fused=self.device.type == "cuda",
        )
        self.curve = Curve()
        self.num_steps_done = 0
        self.flops_each = flops_per_token(
            sum(weight.numel() for weight in weights(model).values()),
            getattr(model.config, "num_hidden_layers", 0),
            getattr(model.config, "hidden_size", 0),
            train_tokens.shape[1],
        )
        torch.manual_seed(spec.seed)

    # -- resuming ----------------------------------------------------------------------

    def resume(self, say: Callable[[str], None]) -> None:
        """Go on from the newest whole checkpoint of this spec, if there is one; says which."""
        found = checkpoints.load_newest(self.context.checkpoints, say)
        if found is None:
            return
        if found.state["spec_sha256"] != self._spec_sha256():
            say(f"the checkpoint after step {found.step} belongs to another spec and is not used")
            return
        torch.set_num_threads(found.state["num_threads"])  # another number sums in another order
        state.restore(found.tensors, self.model, self.optimizer, self.device)
        self.curve = Curve.from_json(found.state["curve"])
        self.num_steps_done = found.step
        for line in self.curve.lines:
            self._report(line)
        say(f"going on from the checkpoint after step {found.step} of {self.spec.num_steps}")

    def _save_checkpoint(self) -> None:
        checkpoints.save(
            self.context.checkpoints,
            Checkpoint(
                step=self.num_steps_done,
                tensors=state.collect(self.model, self.optimizer, self.device),
                state={
                    "spec_sha256": self._spec_sha256(),
                    "num_threads": torch.get_num_threads(),
                    "curve": self.curve.to_json(),
                },
            ),
        )

    def _spec_sha256(self) -> str:
        return hashlib.sha256(self.spec.model_dump_json().encode()).hexdigest()

    # -- the loop ----------------------------------------------------------------------

    def train(self) -> None:
        """Make the steps that are left; `DivergenceError` says where the numbers ended."""
        spec = self.spec
        if self.num_steps_done == 0:
            self._validate()
        duration_s, num_steps_timed = 0.0, 0
        while self.num_steps_done < spec.num_steps:
            started = time.monotonic()
            rate = learning_rate(self.num_steps_done, spec)
            loss, gradient_norm = self._step(rate)
            self.curve.add_step(loss)
            self.num_steps_done += 1
            duration_s += time.monotonic() - started
            num_steps_timed += 1
            is_last = self.num_steps_done == spec.num_steps
            if is_last or self.num_steps_done % spec.log_every_steps == 0:
                line = self.curve.end_interval(
                    self.num_steps_done,
                    learning_rate=rate,
                    gradient_norm=gradient_norm,
                    num_tokens=self.num_steps_done * self._num_tokens_per_step,
                )
                num_tokens = num_steps_timed * self._num_tokens_per_step
                self._report(
                    {**line, **speed(num_tokens, duration_s, self.flops_each, self.device)}
                )
                duration_s, num_steps_timed = 0.0, 0
            if is_last or self.num_steps_done % spec.evaluate_every_steps == 0:
                self._validate()
            if not is_last and self.num_steps_done % spec.checkpoint_every_steps == 0:
                self._save_checkpoint()

    @property
    def _num_tokens_per_step(self) -> int:
        return self.spec.num_sequences_per_step * self.train_tokens.shape[1]

    def _report(self, line: dict[str, float]) -> None:
        values = {name: value for name, value in line.items() if name != "step"}
        self.context.metrics(int(line["step"]), num_steps=self.spec.num_steps, **values)

    def _step(self, rate: float) -> tuple[float, float]:
        """One optimizer step; its mean loss per token, and the gradient's norm before clipping."""
        spec = self.spec
        indices = sequence_indices(
            self.num_steps_done,
            num_sequences=self.train_tokens.shape[0],
            num_per_step=spec.num_sequences_per_step,
            seed=spec.seed,
        )
        sequences = self.train_tokens[torch.from_numpy(indices)].to(self.device, torch.int64)
        num_targets = sequences.shape[0] * (sequences.shape[1] - 1)
        total = torch.zeros((), device=self.device)
        for micro_batch in _batches(sequences, spec.batch_size):
            loss = self._loss_sum(micro_batch) / num_targets
            torch.autograd.backward(loss)
            total += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), spec.max_gradient_norm)
        loss_value, norm_value = total.item(), norm.item()
        if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
            raise DivergenceError(
                f"training diverged at step {self.num_steps_done + 1} of {spec.num_steps}: loss "
                f"{loss_value}, gradient norm {norm_value}, learning rate {rate:.3g}; lower "
                "learning_rate or raise warmup_steps"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss_value, norm_value

    def _loss_sum(self, sequences: torch.Tensor) -> torch.Tensor:
        """Sum of the cross entropy of every token but the first of each sequence, in nats."""
        with self._autocast():
            logits = self.forward(input_ids=sequences, use_cache=False).logits
        return F.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), sequences[:, 1:].flatten(), reduction="sum"
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.spec.precision is Precision.BFLOAT16:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _validate(self) -> None:
        """Add the mean loss over the same first validation sequences to the curve."""
        if self.validation_tokens is None:
            return
        tokens = self.validation_tokens[: self.spec.num_validation_batches * self.spec.batch_size]
        self.model.eval()
        total = 0.0
        with torch.no_grad():
            for batch in _batches(tokens, self.spec.batch_size):
                total += self._loss_sum(batch.to(self.device, torch.int64)).item()
        self.model.train()
        loss = total / (tokens.shape[0] * (tokens.shape[1] - 1))
        if not math.isfinite(loss):
            raise DivergenceError(
                f"the validation loss after step {self.num_steps_done} is {loss}; lower "
                "learning_rate or raise warmup_steps"
            )
        self._report(self.curve.add_validation(self.num_steps_done, loss))


def _batches(sequences: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Views of at most `size` sequences each, in order."""
    for start in range(0, sequences.shape[0], size):
        yield sequences[start : start + size]
