"""A folder of small lm-eval tasks: the prepare step's two over random words, and one more.

    write_tiny_tasks(tmp_path / "tasks", num_documents=6, num_choices=10)

Two items have equal content, as real datasets have.
"""

from __future__ import annotations

import random
from pathlib import Path

from tasks.prepare.heldout import CHOICE_TASK, TEXT_TASK, write_jsonl

WORDS = (
    *("the", "day", "is", "more", "lovely", "than", "summer", "and"),
    *("winds", "shake", "darling", "buds", "of", "may"),
)

ANSWER_TASK = """\
task: heldout_answer
dataset_path: json
dataset_kwargs: {data_files: {test: choices.jsonl}}
test_split: test
output_type: generate_until
num_fewshot: 0
doc_to_text: "{{context}}"
doc_to_target: "{{choices[gold]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}
filter_list:
  - {name: first, filter: [{function: take_first}]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""

GROUP = """\
group: heldout
task: [heldout_choice]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
metadata: {version: 1.0}
"""


def write_tiny_tasks(
    folder: Path, *, num_documents: int = 6, num_choices: int = 10, num_words: int = 30
) -> Path:
    """`heldout_text`, `heldout_choice`, `heldout_answer` and the group `heldout`, from a seed."""
    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    documents = [
        {"text": " ".join(rng.choices(WORDS, k=rng.randint(num_words // 2, num_words))),
         "source": f"play-{index % 3}"}
        for index in range(num_documents)
    ]  # fmt: skip
    choices = [
        {
            "context": " ".join(rng.choices(WORDS, k=6)),
            "choices": [" ".join(rng.choices(WORDS, k=2)) for _ in range(4)],
            "gold": rng.randrange(4),
            "source": f"play-{index % 3}",
        }
        for index in range(num_choices)
    ]
    choices[-1] = choices[0]  # two items of equal content
    write_jsonl(folder / "documents.jsonl", documents)
    write_jsonl(folder / "choices.jsonl", choices)
    for name, text in (
        ("heldout_text", TEXT_TASK.replace("heldout_text.jsonl", "documents.jsonl")),
        ("heldout_choice", CHOICE_TASK.replace("heldout_choice.jsonl", "choices.jsonl")),
        ("heldout_answer", ANSWER_TASK),
        ("heldout", GROUP),
    ):
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder
