"""Count the words of a text; part of examples/command.yaml."""

import argparse
import json
import re
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text", type=Path)
parser.add_argument("counts", type=Path)
parser.add_argument("--pattern", required=True, help="regular expression between words")
arguments = parser.parse_args()

words = [word for word in re.split(arguments.pattern, arguments.text.read_text()) if word]
longest = max(words, key=len)
print(f"{len(words)} words, the longest is {longest!r}")
counts = {"num_words": len(words), "longest": {"word": longest, "num_letters": len(longest)}}
arguments.counts.write_text(json.dumps(counts))
