"""The comparison as a table of strings: one source for the page and for the terminal.

headers, lines = comparison_table(result.rows)
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.analyze.comparison import Method
from tasks.analyze.spec import Latency, Recovery, VariantRow

ABSENT = ""
MEBIBYTE = 1 << 20
NARROW = 0.01  # an interval below one percent is told with a digit more

# Why an interval is as wide as it is.
INTERVAL_WORDS = {
    Method.EXACT: "exact, as agreement on few items or sources proves little",
    Method.SCORE: "score interval of paired proportions",
    Method.STRATIFIED: "from the items of every task in the average",
    Method.UNSEEN: "leaves room for a rare loss that so many do not show; more sources narrow it",
}


def comparison_table(rows: Sequence[VariantRow]) -> tuple[list[str], list[list[str]]]:
    """Headers and one line a variant; what was not measured is an empty cell."""
    metrics = list(dict.fromkeys(r.label for row in rows for r in row.recoveries))
    levels = {r.comparison.confidence for row in rows for r in row.recoveries}
    interval = " / ".join(f"{percent(level)} interval" for level in sorted(levels))
    scored = {label: label.rpartition("/") for label in metrics}
    has_serving = any(row.serving for row in rows)
    headers = ["model", "size"]
    for label in metrics:
        name = scored[label][2].partition(",")[0]
        headers.append(f"{name}, recovery ({interval})")
    if has_serving:
        headers += ["tokens/s", "TTFT p50 / p99", "ITL p50 / p99"]
    return headers, [_line(row, metrics, has_serving) for row in rows]


def percent(fraction: float) -> str:
    """`95%`, and `99.9%` with the digits that it has."""
    return f"{100 * fraction:g}%"


def gaps(rows: Sequence[VariantRow]) -> list[str]:
    """Why recoveries or their intervals are missing: `w8a8, text/acc: not measured`."""
    return [
        f"{row.name}, {recovery.label}: {recovery.comparison.reason}"
        for row in rows
        for recovery in row.recoveries
        if recovery.comparison.reason is not None
    ]


def interval_notes(rows: Sequence[VariantRow]) -> list[str]:
    """How each metric's interval was made, from how many independent units."""
    notes = {
        f"{recovery.label} ({recovery.comparison.num_units} independent units): {words}": None
        for row in rows
        for recovery in row.recoveries
        if (words := INTERVAL_WORDS.get(recovery.comparison.method))
    }
    return list(notes)


def _line(row: VariantRow, metrics: Sequence[str], has_serving: bool) -> list[str]:
    cells = [row.name, _size(row)]
    by_label = {recovery.label: recovery for recovery in row.recoveries}
    scores = {f"{score.task}/{score.label}": score for score in row.scores}
    for label in metrics:
        score = f"{scores[label].value:.4g}" if label in scores else ABSENT
        kept = recovery_words(by_label[label]) if label in by_label else ABSENT
        cells.append(f"{score}  {kept}".strip())
    if has_serving:
        serving = row.serving
        speed = serving.output_tokens_per_s if serving else None
        cells += [
            ABSENT if speed is None else f"{speed:.0f}",
            latency_words(serving.ttft_ms if serving else None),
            latency_words(serving.itl_ms if serving else None),
        ]
    return cells


def recovery_words(recovery: Recovery) -> str:
    """`99.2% (98.7–99.8)`, or why there is no number; empty where nothing was measured."""
    found = recovery.comparison
    if not recovery.is_compared:
        return ABSENT
    if found.estimate is None:
        return found.reason or ABSENT
    estimate = f"{found.estimate:.1%}"
    if found.low is None or found.high is None:
        return f"{estimate} (no interval)"
    digits = 1 if found.high - found.low >= NARROW else 2
    low, high = (f"{100 * end:.{digits}f}" for end in (found.low, found.high))
    return f"{100 * found.estimate:.{digits}f}% ({low}–{high})"


def _size(row: VariantRow) -> str:
    if row.model_size_bytes is None:
        return ABSENT
    size = f"{row.model_size_bytes / MEBIBYTE:.1f} MiB"
    fraction = row.size_fraction
    return size if fraction in (None, 1.0) else f"{size} ({fraction:.0%})"


def latency_words(latency: Latency | None) -> str:
    """`20.9 / 33.7 ms`: median and p99."""
    return f"{latency.p50:.1f} / {latency.p99:.1f} ms" if latency else ABSENT
