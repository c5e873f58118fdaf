"""Raw files shaped as GSM8K and three BIG-Bench-Hard tasks, for machines without the real ones.

    write_raw(tmp_path / "raw")         # gsm8k/{train,test}.jsonl and bbh/<task>.json
    write_mirror(raw, tmp_path / "mirror")

Sums, walks and made-up sports: enough for lm-eval's own tasks to run unmodified, and nothing more.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from tasks.evaluate.mirror import add_dataset, one_config_per_file

NUM_ITEMS = 12


def write_raw(folder: Path) -> Path:
    """The raw files, the same ones every time."""
    rng = random.Random(0)
    (folder / "gsm8k").mkdir(parents=True)
    (folder / "bbh").mkdir()
    for split in ("train", "test"):
        rows = [_word_problem(rng) for _ in range(NUM_ITEMS)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "gsm8k" / f"{split}.jsonl").write_text(text)
    for name, make in (
        ("boolean_expressions", _boolean),
        ("navigate", _walk),
        ("sports_understanding", _sport),
    ):
        document = {"canary": "", "examples": [make(rng) for _ in range(NUM_ITEMS)]}
        (folder / "bbh" / f"{name}.json").write_text(json.dumps(document))
    return folder


def write_mirror(raw: Path, mirror: Path) -> Path:
    """The datasets of lm-eval's gsm8k and leaderboard_bbh tasks, out of raw files."""
    splits = {split: raw / "gsm8k" / f"{split}.jsonl" for split in ("train", "test")}
    add_dataset(mirror, "openai/gsm8k", {"main": splits})
    add_dataset(mirror, "SaylorTwift/bbh", one_config_per_file(raw / "bbh", split="test"))
    return mirror


def _word_problem(rng: random.Random) -> dict[str, str]:
    a, b = rng.randint(2, 40), rng.randint(2, 40)
    return {
        "question": f"A baker has {a} loaves and bakes {b} more. How many loaves are there?",
        "answer": f"{a} and {b} make <<{a}+{b}={a + b}>>{a + b}.\n#### {a + b}",
    }


def _boolean(rng: random.Random) -> dict[str, str]:
    left, right = rng.random() < 0.5, rng.random() < 0.5
    return {"input": f"not {left} and {right} is", "target": str(not left and right)}


def _walk(rng: random.Random) -> dict[str, str]:
    there, back = rng.randint(1, 4), rng.randint(1, 4)
    question = "If you follow these instructions, do you return to the starting point?"
    steps = f"Always face forward. Take {there} steps left. Take {back} steps right."
    answer = "Yes" if there == back else "No"
    return {"input": f"{question} {steps}\nOptions:\n- Yes\n- No", "target": answer}


def _sport(rng: random.Random) -> dict[str, str]:
    player, deed, target = rng.choice(
        [("goalkeeper", "saved the penalty", "yes"), ("swimmer", "dribbled the ball", "no")]
    )
    return {
        "input": f'Is the following sentence plausible? "The {player} {deed}."',
        "target": target,
    }
