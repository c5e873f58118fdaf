"""The body of prepare: text to splits, splits to tokenizer, tokenizer to model and tokens.

What is learnt (the tokenizer) or measured (the calibration set) sees the training split only; what
judges (the tasks) is made of the test split only.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tasks.artifacts import ArtifactKind, ArtifactRef
from tasks.body import BodyContext, run_body
from tasks.model_folder import TOKENIZER_FILES, check_model_folder, copy_files, num_parameters
from tasks.prepare import heldout, models, packing
from tasks.prepare import tokenizer as tokenizers
from tasks.prepare.documents import Corpus, find_files, read_corpus
from tasks.prepare.model_spec import (
    ModelFromConfig,
    ModelFromFolder,
    ModelFromHub,
    TokenizerFromFolder,
    TokenizerTrained,
)
from tasks.prepare.spec import PrepareResult, PrepareSpec, SplitCounts, TextCounts
from tasks.prepare.splits import Split
from tasks.prepare.text_spec import CalibrationTemplate

STAGES = ("text", "tokenizer", "model", "tokens", "tasks")


def main(spec: PrepareSpec, context: BodyContext) -> PrepareResult:
    """Make every part that the spec asks for; ValueError says what cannot be made and why."""
    return _Preparation(spec, context).run()


class _Preparation:
    """The parts as they come into being."""

    def __init__(self, spec: PrepareSpec, context: BodyContext):
        self.spec = spec
        self.context = context
        self.model_folder = context.out / "model"
        self.tokenizer_folder = context.out / "tokenizer"
        self.corpus: Corpus | None = None
        self.tokenizer: Any = None
        self.num_parameters: int | None = None
        self.tokens: dict[Split, list[list[int]]] = {}
        self.num_sequences: dict[Split, int] = {}
        self.artifacts: dict[str, ArtifactRef] = {}

    def run(self) -> PrepareResult:
        self.read_text()
        self.report("text")
        self.fetch_model()
        self.make_tokenizer()
        self.report("tokenizer")
        self.finish_model()
        self.report("model")
        self.write_tokens()
        self.report("tokens")
        self.write_test_parts()
        self.report("tasks")
        return PrepareResult(
            **self.artifacts,
            counts=self.counts(),
            vocab_size=len(self.tokenizer) if self.tokenizer else None,
            num_parameters=self.num_parameters,
        )

    def report(self, stage: str) -> None:
        self.context.metrics(STAGES.index(stage) + 1, num_steps=len(STAGES), stage=stage)

    def keep(self, field: str, kind: ArtifactKind, folder: Path) -> None:
        self.artifacts[field] = self.context.artifact(kind, folder, folder.name)

    def read_text(self) -> None:
        rule = self.spec.text
        if rule is None:
            return
        name = rule.source.name if isinstance(rule.source, ArtifactRef) else "text"
        files = find_files(self.context.path(rule.source), name, rule.glob)
        self.corpus = read_corpus(files, rule, self.spec.split)
        for name in self.corpus.skipped_files:
            print(f"left out, as it is not {rule.encoding}: {name}", file=sys.stderr)

    def fetch_model(self) -> None:
        """Put the files of an existing model in place; new weights wait for their tokenizer."""
        rule = self.spec.model
        if rule is None or isinstance(rule, ModelFromConfig):
            return
        if isinstance(rule, ModelFromFolder):
            models.copy(self.context.path(rule.path), self.model_folder)
        elif isinstance(rule, ModelFromHub):
            models.download(rule, self.model_folder)
        else:
            models.convert_gguf(rule, self.context.path(rule.file), self.model_folder)

    def make_tokenizer(self) -> None:
        rule = self.spec.tokenizer
        if isinstance(rule, TokenizerTrained):
            documents = self.corpus.documents[Split.TRAIN] if self.corpus else []
            model = self.spec.model
            tokenizers.learn(
                (document.text for document in documents),
                rule.vocab_size,
                model.max_position_embeddings if isinstance(model, ModelFromConfig) else None,
            ).save_pretrained(self.tokenizer_folder)
        elif isinstance(rule, TokenizerFromFolder):
            copy_files(self.context.path(rule.path), self.tokenizer_folder, TOKENIZER_FILES)
        elif self.model_folder.exists():
            copy_files(self.model_folder, self.tokenizer_folder, TOKENIZER_FILES)
        else:
            return
        self.tokenizer = tokenizers.read(self.tokenizer_folder)
        self.keep("tokenizer", ArtifactKind.TOKENIZER, self.tokenizer_folder)

    def finish_model(self) -> None:
        """New weights where they are asked for; the tokenizer beside them; the whole checked."""
        rule = self.spec.model
        if rule is None:
            return
        if isinstance(rule, ModelFromConfig):
            models.create(rule, self.tokenizer, self.model_folder)
        for name in TOKENIZER_FILES:
            (self.model_folder / name).unlink(missing_ok=True)
        copy_files(self.tokenizer_folder, self.model_folder, TOKENIZER_FILES)
        models.add_generation_config(self.model_folder, self.tokenizer)
        models.check_vocabulary(self.model_folder, len(self.tokenizer))
        self.num_parameters = num_parameters(check_model_folder(self.model_folder))
        self.keep("model", ArtifactKind.MODEL, self.model_folder)

    def write_tokens(self) -> None:
        length, calibration = self.spec.sequence_length, self.spec.calibration
        if self.corpus is None or self.tokenizer is None or not (length or calibration):
            return
        eos = self.tokenizer.eos_token_id
        for split, documents in self.corpus.documents.items():
            self.tokens[split] = tokenizers.encode(self.tokenizer, [d.text for d in documents])
        if length is not None:
            for split in (Split.TRAIN, Split.VALIDATION):
                sequences = packing.pack(self.tokens[split], eos, length)
                self.num_sequences[split] = len(sequences)
                if len(sequences):
                    folder = packing.write_tokens(self.context.out / f"{split}_tokens", sequences)
                    self.keep(folder.name, ArtifactKind.TOKENS, folder)
            if not self.num_sequences[Split.TRAIN]:
                raise ValueError(
                    f"the training split does not fill one sequence of {length} tokens: lower "
                    "sequence_length or give more text"
                )
        if calibration is not None:
            tokens = self.tokens[Split.TRAIN]
            if calibration.template is CalibrationTemplate.CHAT:
                documents = self.corpus.documents[Split.TRAIN]
                texts = tokenizers.in_chat_template(self.tokenizer, documents)
                tokens = tokenizers.encode(self.tokenizer, texts)
            sequences = packing.calibration_sequences(tokens, eos, calibration)
            folder = packing.write_tokens(self.context.out / "calibration", sequences)
            self.keep(folder.name, ArtifactKind.TOKENS, folder)

    def write_test_parts(self) -> None:
        documents = self.corpus.documents[Split.TEST] if self.corpus else []
        if documents:
            folder = self.context.out / "test_documents"
            folder.mkdir()
            heldout.write_jsonl(
                folder / "documents.jsonl", [heldout.document_row(d) for d in documents]
            )
            self.keep(folder.name, ArtifactKind.TEXT, folder)
        if self.spec.heldout is not None:
            folder = heldout.write_tasks(
                self.context.out / "eval_tasks", documents, self.spec.heldout
            )
            self.keep(folder.name, ArtifactKind.TASKS, folder)

    def counts(self) -> TextCounts | None:
        corpus = self.corpus
        if corpus is None:
            return None
        by_split = {
            split.value: SplitCounts(
                num_documents=len(documents),
                num_bytes=sum(len(document.text.encode("utf-8")) for document in documents),
                num_tokens=sum(len(ids) + 1 for ids in self.tokens[split]) if self.tokens else None,
                num_sequences=self.num_sequences.get(split),
            )
            for split, documents in corpus.documents.items()
        }
        return TextCounts(
            **by_split,
            num_files=corpus.num_files,
            num_duplicates=corpus.num_duplicates,
            num_too_short=corpus.num_too_short,
            num_overlapping=corpus.num_overlapping,
            num_skipped_files=len(corpus.skipped_files),
            num_replaced_characters=corpus.num_replaced_characters,
        )


if __name__ == "__main__":
    run_body(PrepareSpec, main)
