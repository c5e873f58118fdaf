"""Raw files of GSM8K and BIG-Bench-Hard, laid out as the hub datasets that lm-eval's tasks name.

    python examples/full/make_mirror.py RAW_FOLDER MIRROR

RAW_FOLDER holds `gsm8k/train.jsonl` and `gsm8k/test.jsonl` of github.com/openai/grade-school-math
and `bbh/*.json` of github.com/suzgunmirac/BIG-Bench-Hard. MIRROR gets `openai/gsm8k` and
`SaylorTwift/bbh`, and must have neither.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tasks.evaluate.mirror import Configs, add_dataset, one_config_per_file

SPLITS = ("train", "test")


def datasets(raw: Path) -> dict[str, Configs]:
    """What each dataset is made of, by its name on the hub; OSError if there is no `bbh` folder."""
    return {
        "openai/gsm8k": {"main": {split: raw / f"gsm8k/{split}.jsonl" for split in SPLITS}},
        "SaylorTwift/bbh": one_config_per_file(raw / "bbh", split="test"),
    }


def main() -> int:
    """Prints the folder of each dataset; exit status 2, with the reason, if one cannot be made."""
    parser = argparse.ArgumentParser(description="Lay out GSM8K and BIG-Bench-Hard as a mirror.")
    parser.add_argument("raw", type=Path, help="folder with gsm8k/*.jsonl and bbh/*.json")
    parser.add_argument("mirror", type=Path, help="folder to write; LABWRIGHT_MIRROR afterwards")
    chosen = parser.parse_args()
    try:
        for name, configs in datasets(chosen.raw).items():
            print(add_dataset(chosen.mirror, name, configs))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
