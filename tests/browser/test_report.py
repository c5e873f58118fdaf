"""What the report's page shows, looked at in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fakes.quickstart import QuickstartRun

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
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
PROBE = """<script>addEventListener("load", () => {
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify({
    images: [...document.images].map(i => [i.alt, i.naturalWidth, i.getBoundingClientRect().width]),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    headings: [...document.querySelectorAll("h1, h2")].map(h => h.textContent),
    rows: document.querySelector("tbody").rows.length,
  });
  document.body.append(out);
});</script></body>"""

pytestmark = pytest.mark.skipif(
    not BROWSER, reason="THE REPORT IS NOT LOOKED AT: no Chromium; type: apt-get install chromium"
)


@pytest.mark.parametrize("width", [1200, 390], ids=["desktop", "phone"])
def test_every_plot_shows_and_nothing_overflows(
    quickstart: QuickstartRun, tmp_path: Path, width: int
) -> None:
    page = Path(quickstart.summary["report"]).read_text()
    copy = tmp_path / "page.html"
    copy.write_text(page.replace("</body>", PROBE))
    looked = subprocess.run(
        [
            BROWSER,
            *FLAGS,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},900",
            "--dump-dom",
            copy.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    probe = re.search(r'<pre id="probe">(.*?)</pre>', looked.stdout, re.DOTALL)
    assert probe, looked.stderr
    seen = json.loads(html.unescape(probe.group(1)))
    assert [alt for alt, *_ in seen["images"]] == [
        "Training loss",
        "Recovery with intervals",
        "Latency against throughput",
        "Recovery against size",
        "Recovery against speed",
    ]
    assert all(natural > 100 and shown > 200 for _, natural, shown in seen["images"]), seen
    assert seen["overflow"] <= 0, "the page scrolls sideways"
    assert seen["rows"] == 4
    assert "Every score" in seen["headings"]
    assert "CONSOLE" not in looked.stderr, looked.stderr
