"""A body that imports nothing but the standard library, and misbehaves as its spec says.

It speaks to its step only by the files that every body reads and writes. It starts in 60 ms, so
that it can be run hundreds of times. TOY_STARTS names a file that takes a line for each start and
each end.
"""

import ctypes
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

NONE = "0" * 64


def note(event: str) -> None:
    if path := os.environ.get("TOY_STARTS"):
        with open(path, "a") as file:
            file.write(f"{event} {os.getpid()} {time.monotonic():.4f}\n")


def bytes_of(seed: int, num_bytes: int) -> bytes:
    block = hashlib.sha256(str(seed).encode()).digest()
    return (block * (num_bytes // len(block) + 1))[:num_bytes]


def file_ref(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return {"kind": "file", "digest": digest, "size_bytes": len(data), "name": path.name}


def folder_ref(folder: Path) -> dict[str, object]:
    refs = [file_ref(path) for path in sorted(folder.iterdir())]
    files = [
        {
            "executable": False,
            "path": ref["name"],
            "sha256": ref["digest"],
            "size_bytes": ref["size_bytes"],
        }
        for ref in refs
    ]
    manifest = {"files": files, "format": "labwright-manifest-1"}
    data = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    return {
        "kind": "folder",
        "digest": hashlib.sha256(data).hexdigest(),
        "size_bytes": sum(int(str(ref["size_bytes"])) for ref in refs),
        "name": folder.name,
        "is_folder": True,
    }


def stubborn() -> None:
    """A grandchild in a session of its own, that SIGTERM does not impress."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            time.sleep(60)
        time.sleep(60)
        os._exit(0)


def misbehave(manner: str, out: Path) -> None:
    """What comes before an answer; most of it never comes that far."""
    if manner == "exits_3_in_silence":
        sys.exit(3)
    if manner == "exits_1_with_words":
        sys.exit("first of all:\nthe moon is in the wrong phase")
    if manner == "segfaults":
        ctypes.string_at(0)
    if manner == "allocates":
        held = []
        while True:
            held.append(bytes(b"x" * (8 << 20)))
            time.sleep(0.005)
    if manner in ("sleeps", "forks"):
        if manner == "forks":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            stubborn()
        note("ready")
        time.sleep(60)
    if manner == "leaves_nothing":
        sys.exit(0)
    if manner == "prints_garbage":
        os.write(1, bytes(range(256)) * 20 + b"\n\x1b[2J\r\r" + b"\xff" * 9999)
        (out / "metrics.jsonl").write_bytes(
            b'garbage\n{"step": "x"}\n[1]\n\xff\n{"step": 1, "num_steps": "many"}\n'
            + b"[" * 100_000
            + b"\n{}\n"
        )
    if manner == "prints_its_environment":
        for name, value in os.environ.items():
            print(f"{name}={value}")
            print(f"{name}={value}", file=sys.stderr)
        (out / "metrics.jsonl").write_text(json.dumps({"step": 1, **os.environ}) + "\n")


def spoil(manner: str, out: Path) -> None:
    """Turn a good answer into a bad one."""
    result, listed = out / "result.json", out / "artifacts.json"
    answer = json.loads(result.read_text())
    files = json.loads(listed.read_text())
    file = answer["file"]
    if manner == "leaves_garbage":
        result.write_bytes(os.urandom(64))
    elif manner == "leaves_torn_json":
        result.write_bytes(result.read_bytes()[:-20])
    elif manner == "leaves_deep_json":
        result.write_text("[" * 200_000)
    elif manner == "leaves_a_folder":
        result.unlink()
        result.mkdir()
    elif manner == "leaves_nan":
        result.write_text(json.dumps({**answer, "number": float("nan")}))
    elif manner == "leaves_another_type":
        result.write_text(json.dumps({"number": "many"}))
    elif manner == "lists_garbage":
        listed.write_text('{"a": ')
    elif manner == "lists_a_list":
        listed.write_text("[1, 2]")
    elif manner == "lists_a_missing_file":
        listed.write_text(json.dumps({**files, file["digest"]: "nowhere"}))
    elif manner == "lists_an_outside_file":
        listed.write_text(json.dumps({**files, file["digest"]: "../request.json"}))
    elif manner == "names_what_it_does_not_list":
        result.write_text(json.dumps({**answer, "file": {**file, "digest": NONE}}))
    elif manner == "names_a_wrong_digest":
        result.write_text(json.dumps({**answer, "file": {**file, "digest": NONE}}))
        listed.write_text(json.dumps({**files, NONE: file["name"]}))


def main() -> None:
    note("start")
    request, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    spec = request["spec"]
    misbehave(spec["manner"], out)
    time.sleep(spec["sleep_s"])
    source = spec["source"]
    if source is not None:
        path = Path(request["inputs"][source["digest"]])
        sorted(path.iterdir()) if path.is_dir() else path.read_bytes()
    print(f"computing with seed {spec['seed']}", flush=True)
    file, folder = out / "numbers.bin", out / "numbers"
    file.write_bytes(bytes_of(spec["seed"], spec["num_bytes"]))
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_bytes(bytes_of(spec["seed"], 50) + name.encode())
    refs = {"file": file_ref(file), "folder": folder_ref(folder)}
    answer = {
        "number": int(hashlib.sha256(str(spec["seed"]).encode()).hexdigest()[:4], 16) / 7,
        "read": source["digest"] if source else "",
        **refs,
    }
    (out / "artifacts.json").write_text(
        json.dumps({ref["digest"]: ref["name"] for ref in refs.values()})
    )
    (out / "result.json").write_text(json.dumps(answer))
    spoil(spec["manner"], out)
    note("end")


if __name__ == "__main__":
    main()
