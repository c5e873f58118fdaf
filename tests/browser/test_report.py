"""What pages show, looked at in a real browser: an analysis's own page, and a run's."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.cli.doctor import BROWSERS
from flows.cli.report import report
from tests.fakes.kept_run import keep_run
from tests.fakes.quickstart import QuickstartRun

BROWSER = next(filter(None, map(shutil.which, BROWSERS)), "")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
)
FORBIDS_SCRIPTS = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
# A window of Chromium's is no narrower than 500 pixels; a frame is as narrow as it is asked to be.
FRAME = """<!doctype html><style>body {{ margin: 0 }} iframe {{ border: 0; width: {width}px;
height: 900px }}</style><iframe srcdoc="{page}"></iframe>"""
PROBE = """<script>addEventListener("load", () => {
  const out = parent.document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify({
    width: innerWidth,
    images: [...document.images].map(i => [i.alt, i.naturalWidth, i.getBoundingClientRect().width]),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    outside: [...document.querySelectorAll("body *")].filter(e => !e.closest(".wide, pre")
      && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80)),
    headings: [...document.querySelectorAll("h1, h2")].map(h => h.textContent),
    rows: document.querySelector("tbody").rows.length,
    ran: typeof window.ran,
  });
  parent.document.body.append(out);
});</script></body>"""
COMPARED = [
    "Training loss",
    "Recovery with intervals",
    "Latency against throughput",
    "First token against throughput",
    "Recovery against size",
    "Recovery against speed",
]

pytestmark = pytest.mark.skipif(
    not BROWSER, reason="THE REPORT IS NOT LOOKED AT: no Chromium; type: apt-get install chromium"
)


@dataclass(frozen=True)
class Looked:
    """What a browser saw of a page, and what it wrote to its log."""

    seen: dict[str, Any]
    log: str


def look(page: str, folder: Path, width: int) -> Looked:
    """Open a page in a frame of so many pixels, with a probe in it."""
    probed = FORBIDS_SCRIPTS.sub("", page).replace("</body>", PROBE)
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(width=width, page=html.escape(probed)))
    looked = browse(frame, folder, "--dump-dom")
    probe = re.search(r'<pre id="probe">(.*?)</pre>', looked.stdout, re.DOTALL)
    assert probe, looked.stderr
    return Looked(json.loads(html.unescape(probe.group(1))), looked.stderr)


def browse(page: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open a page as it is."""
    profile = f"--user-data-dir={folder / 'profile'}"
    return subprocess.run(
        [BROWSER, *FLAGS, profile, "--window-size=1300,900", *flags, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def check(looked: Looked, width: int, images: list[str]) -> None:
    seen = looked.seen
    assert seen["width"] == width
    assert [alt for alt, *_ in seen["images"]] == images
    assert all(natural > 100 and shown > 200 for _, natural, shown in seen["images"]), seen
    assert seen["overflow"] <= 0, "the page scrolls sideways"
    assert seen["outside"] == []
    assert "CONSOLE" not in looked.log, looked.log


@pytest.mark.parametrize("width", [1200, 360], ids=["desktop", "phone"])
def test_every_plot_shows_and_nothing_overflows(
    quickstart: QuickstartRun, tmp_path: Path, width: int
) -> None:
    looked = look(Path(quickstart.summary["report"]).read_text(), tmp_path, width)
    check(looked, width, COMPARED)
    assert looked.seen["rows"] == 4
    assert "Every score" in looked.seen["headings"]


@pytest.mark.parametrize("width", [1200, 360], ids=["desktop", "phone"])
@pytest.mark.parametrize("with_analysis", [True, False], ids=["analyzed", "not analyzed"])
def test_the_page_of_a_run_shows_all_there_is(
    home: Path, tmp_path: Path, width: int, with_analysis: bool
) -> None:
    run = keep_run(tmp_path, said=f"variant {'x' * 90}", with_analysis=with_analysis)
    report(run.id, None)
    looked = look((run.page / "run.html").read_text(), tmp_path, width)
    without = ["Training loss", "Latency against throughput", "First token against throughput"]
    check(looked, width, COMPARED if with_analysis else without)
    sections = ["Promises and gates", "Results", "Plots", "Facts", "Every score", "Steps"]
    assert [h for h in looked.seen["headings"] if h in sections] == sections
    assert ("Samples side by side" in looked.seen["headings"]) is with_analysis


def test_a_browser_runs_nothing_that_a_model_said_and_complains_of_nothing(
    home: Path, tmp_path: Path
) -> None:
    hostile = "<script>window.ran=1</script><img src=x onerror=window.ran=1><svg onload=ran=1>"
    run = keep_run(tmp_path, said=hostile)
    report(run.id, None)
    page = run.page / "run.html"
    assert FORBIDS_SCRIPTS.search(page.read_text())
    as_it_is = browse(page, tmp_path, "--dump-dom")
    assert "CONSOLE" not in as_it_is.stderr, as_it_is.stderr
    looked = look(page.read_text(), tmp_path, 360)  # even where scripts were allowed
    assert looked.seen["ran"] == "undefined"
    assert len(looked.seen["images"]) == len(COMPARED)
