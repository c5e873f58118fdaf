"""`labwright doctor`: what it finds wrong, and that it says what to type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli import doctor
from flows.cli.doctor import Status
from infra import pins
from tasks.environments import read_lock
from tasks.errors import EnvironmentMissing
from tasks.gpus import Gpu


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABWRIGHT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_missing_serve_environment_ends_with_2_and_says_make_setup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert doctor.doctor(as_json=True) == 2
    findings = {item["part"]: item for item in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["serve environment"]["status"] == "wrong"
    assert findings["serve environment"]["remedy"] == "make setup"
    assert findings["python"]["status"] == "ok"


def test_every_finding_that_is_not_ok_says_what_to_type() -> None:
    found = list(doctor.find_all())
    assert all(finding.remedy for finding in found if finding.status is not Status.OK)


def test_environment_that_is_set_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABWRIGHT_ENVIRONMENT", "staging")
    doctor.doctor(as_json=True)
    findings = {item["part"]: item for item in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["environment"]["found"] == "staging"


def test_optional_part_that_is_missing_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = doctor.program("docker", ("no-such-program",), "apt-get install docker.io", "pools")
    assert missing.status is Status.OPTIONAL
    monkeypatch.setattr(doctor, "find_all", lambda: iter([missing]))
    assert doctor.doctor() == 0


def test_table_shows_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    found = list(doctor.find_all())
    doctor.show(found)
    shown = capsys.readouterr().out
    assert all(finding.part in shown for finding in found)


def test_package_of_another_version_than_locked_is_wrong() -> None:
    locked = read_lock("core")["torch"]
    (found,) = doctor.packages("core", ("torch",), {"torch": "2.0.0"})
    assert (found.status, found.found) == (Status.WRONG, f"2.0.0, locked {locked}")
    (missing,) = doctor.packages("core", ("torch",), {})
    assert missing.found == f"missing, locked {locked}"


def test_damaged_environment_names_what_differs(tmp_path: Path) -> None:
    empty = pins.Environment("core", tmp_path, (pins.LOCKS / "core.txt",))
    found = doctor.environment(empty, empty.differences())
    assert found.status is Status.WRONG
    assert "absl-py is missing" in found.found


@pytest.mark.parametrize(
    ("driver", "status"),
    [("580.65.06", Status.OK), ("535.129.03", Status.WRONG), (None, Status.OK)],
)
def test_driver_too_old_for_the_locked_cuda_is_wrong(
    monkeypatch: pytest.MonkeyPatch, driver: str | None, status: Status
) -> None:
    gpu = Gpu(index=0, uuid="GPU-1", name="NVIDIA H200", memory_mib=143771)
    monkeypatch.setattr(doctor, "list_gpus", lambda: (gpu,))
    monkeypatch.setattr(doctor, "driver_version", lambda _: driver)
    found = doctor.gpus()
    assert found.status is status
    assert "NVIDIA H200 140 GiB" in found.found


def test_driver_that_does_not_answer_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> tuple[Gpu, ...]:
        raise EnvironmentMissing("nvidia-smi does not answer: no driver")

    monkeypatch.setattr(doctor, "list_gpus", fail)
    assert doctor.gpus().status is Status.WRONG


def test_home_that_cannot_be_written_is_wrong(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    found = doctor.home(home)
    assert found.status is Status.WRONG
    assert "not writable" in found.found


def test_doctor_creates_nothing(home: Path) -> None:
    doctor.doctor()
    assert not home.exists()


def test_doctor_and_set_up_look_for_the_same_browsers() -> None:
    script = (Path(pins.__file__).parent / "system.sh").read_text()
    assert f"for browser in {' '.join(doctor.BROWSERS)}; do" in script
