"""Whether data and models are what they should be: as the steps counted, and as the bytes say now.

    facts = [*data_facts(evidence), *model_facts(evidence)]

What a step checked before it kept its result is told as that; the digests of all artifacts are
checked here, again.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.analysis.evidence import RunEvidence
from flows.analysis.facts import Fact, FactKind, digits, plural
from tasks.artifacts import ArtifactRef
from tasks.compress.spec import CompressResult
from tasks.errors import Corrupted, StoreError
from tasks.evaluate.spec import EvaluateResult
from tasks.prepare.spec import PrepareResult, PrepareSpec, TextCounts
from tasks.store import open_store
from tasks.train import TrainResult

SPLITS = ("train", "validation", "test")
FEW_ITEMS = 30  # below, intervals of scores are exact ones at best, and wide


def data_facts(evidence: RunEvidence) -> Iterator[Fact]:
    """Sizes of splits, what was left out, overlap of words, and how much was judged by."""
    for name, result in evidence.of_type(PrepareResult):
        if result.counts is not None:
            yield from _of_text(name, result.counts, _overlap_rule(evidence, name))
    for name, evaluated in evidence.of_type(EvaluateResult):
        items = {score.task: score.num_items for score in evaluated.scores}
        for task, num_items in items.items():
            if num_items < FEW_ITEMS:
                yield Fact(
                    kind=FactKind.DATA,
                    claim=f"{name} judges {task} by {plural(num_items, 'item')} only",
                    numbers={"num_items": num_items},
                    source=f"scores of step {name}",
                    needs_attention=True,
                )


def _overlap_rule(evidence: RunEvidence, name: str) -> int | None:
    return PrepareSpec.model_validate(evidence.records[name].spec).split.overlap_num_words


def _of_text(name: str, counts: TextCounts, overlap_num_words: int | None) -> Iterator[Fact]:
    source = f"counts of step {name}"
    splits = {split: getattr(counts, split) for split in SPLITS}
    sizes = {split: found.num_documents for split, found in splits.items()}
    total = sum(sizes.values())
    words = ", ".join(
        f"{size:,} {split}" + (f" ({size / total:.1%})" if total else "")
        for split, size in sizes.items()
    )
    numbers: dict[str, int | float] = {f"num_{split}": size for split, size in sizes.items()}
    if total:
        numbers |= {f"{split}_share": size / total for split, size in sizes.items()}
    yield Fact(
        kind=FactKind.DATA,
        claim=f"{name} shared {plural(total, 'document')} out as {words}",
        numbers={"num_documents": total, **numbers},
        source=source,
    )
    for split, size in sizes.items():
        if not size:
            yield Fact(
                kind=FactKind.DATA,
                claim=f"the {split} split of {name} is empty: 0 documents",
                numbers={"num_documents": 0},
                source=source,
                needs_attention=True,
            )
    if overlap_num_words is None:
        yield Fact(
            kind=FactKind.DATA,
            claim=f"{name} did not look for text that training and judging share; "
            f"{plural(counts.num_duplicates, 'repeated document')} were left out",
            numbers={"num_duplicates": counts.num_duplicates},
            source=source,
            needs_attention=True,
        )
    else:
        judged = sizes["validation"] + sizes["test"]
        yield Fact(
            kind=FactKind.DATA,
            claim=f"{name} left out {plural(counts.num_overlapping, 'document')} of validation and "
            f"test for sharing a run of {overlap_num_words} words with training text; by this "
            f"rule 0 of the {judged:,} kept do",
            numbers={
                "num_left_out": counts.num_overlapping,
                "num_words": overlap_num_words,
                "num_kept": judged,
                "num_sharing": 0,
            },
            source=f"{source}, split.overlap_num_words",
        )
    left_out = {
        "repeated": counts.num_duplicates,
        "too short": counts.num_too_short,
        "in files that could not be read": counts.num_skipped_files,
    }
    yield Fact(
        kind=FactKind.DATA,
        claim=f"{name} read {plural(counts.num_files, 'file')} and left out "
        + ", ".join(f"{number:,} {why}" for why, number in left_out.items()),
        numbers={
            "num_files": counts.num_files,
            "num_repeated": counts.num_duplicates,
            "num_too_short": counts.num_too_short,
            "num_unreadable_files": counts.num_skipped_files,
        },
        source=source,
        needs_attention=counts.num_skipped_files > 0,
    )


def model_facts(evidence: RunEvidence) -> Iterator[Fact]:
    """Sizes as the steps checked them, damaged records, and the digests of every artifact."""
    for name, trained in evidence.of_type(TrainResult):
        yield Fact(
            kind=FactKind.MODEL,
            claim=f"{name} kept {digits(trained.num_parameters)} parameters in "
            f"{digits(trained.size_bytes)} bytes; all were finite and fit their config when it "
            "was kept",
            numbers={"num_parameters": trained.num_parameters, "size_bytes": trained.size_bytes},
            source=f"result and check of step {name}",
        )
    for name, compressed in evidence.of_type(CompressResult):
        yield _compressed(name, compressed)
    for name, why in evidence.damaged.items():
        yield Fact(
            kind=FactKind.MODEL,
            claim=f"the result of {name} cannot be read: {why}",
            numbers={},
            source=f"record of step {name}",
            needs_attention=True,
        )
    if evidence.records:
        yield _digests(evidence)


def _compressed(name: str, result: CompressResult) -> Fact:
    numbers: dict[str, int | float] = {
        "size_ratio": result.size_ratio,
        "expected_size_ratio": result.expected_size_ratio,
        "num_quantized": result.num_quantized_modules,
        "num_linear": result.num_linear_modules,
    }
    rest = ""
    if result.base_loss is not None and result.loss is not None:
        numbers |= {"base_loss": result.base_loss, "loss": result.loss}
        rest = (
            f"; loss on calibration text {digits(result.base_loss)} before, "
            f"{digits(result.loss)} after"
        )
    if result.agreement_fraction is not None:
        numbers["agreement"] = result.agreement_fraction
        rest += f"; both predict the same token at {result.agreement_fraction:.1%} of positions"
    return Fact(
        kind=FactKind.MODEL,
        claim=f"{name} has {result.size_ratio:.1%} of the size that went in, where bits and scales "
        f"add up to {result.expected_size_ratio:.1%}; {result.num_quantized_modules} of "
        f"{result.num_linear_modules} linear layers are quantized; its scales were finite, it "
        f"loaded and generated when it was kept{rest}",
        numbers=numbers,
        source=f"result and check of step {name}",
    )


def _digests(evidence: RunEvidence) -> Fact:
    store = open_store()
    refs: dict[str, tuple[str, ArtifactRef]] = {}
    for name, record in evidence.records.items():
        refs |= {ref.digest: (name, ref) for ref in record.artifacts}
    broken = []
    for name, ref in refs.values():
        try:
            store.verify(ref)
        except (Corrupted, StoreError, OSError) as error:
            broken.append(f"{ref.name} of {name} ({error})")
    num_good = len(refs) - len(broken)
    size_bytes = sum(ref.size_bytes for _, ref in refs.values())
    claim = f"{num_good} of {plural(len(refs), 'artifact')} are, byte for byte, what was kept"
    return Fact(
        kind=FactKind.MODEL,
        claim=f"{claim}; damaged: {'; '.join(broken)}" if broken else claim,
        numbers={"num_good": num_good, "num_artifacts": len(refs), "size_bytes": size_bytes},
        source="sha256 of every file in the store, checked now",
        needs_attention=bool(broken),
    )
