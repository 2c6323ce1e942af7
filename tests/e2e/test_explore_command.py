"""`hlsgen explore` as its users run it: a table, JSON, Ctrl-C and going on, wrong input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hlsgen import cli

SMALL = ["explore", "yolo", "--weights", "demo", "--imgsz", "64", "--parts", "xc7z020"]
ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: object) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "hlsgen.cli", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_ctrl_c_keeps_finished_points_and_the_same_command_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    array = ["--tm", 16, "--tn", 16, "--tp", 1]
    command = [*SMALL, *array, "--out", out, "--jobs", 2, "--clock", "100,120,140,150", "--budgets", "80%,100%"]
    running = start(*command)
    deadline = time.monotonic() + 120
    while len(list((out / "points").glob("*.json"))) < 2 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the workers too
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    assert stdout == ""
    told = f"hlsgen: interrupted; finished points are in {out}, the same command goes on from them"
    assert stderr.splitlines()[-1] == told
    assert "Traceback" not in stderr
    kept = sorted((out / "points").iterdir())
    assert 2 <= len(kept) < 8
    assert all(path.suffix == ".json" and json.loads(path.read_text())["key"] == path.stem for path in kept)
    again = start(*command, "--json")
    stdout, stderr = again.communicate(timeout=240)
    assert again.returncode == 0, stderr
    facts = json.loads(stdout)
    assert facts["run"].pop("seconds") > 0
    assert facts["run"] == {"points": 8, "taken_over": len(kept), "priced": 8 - len(kept)}
    assert len(facts["points"]) == 8
    assert f"{8 - len(kept)} points priced, {len(kept)} taken over from an earlier run" in stderr


def test_the_table_says_what_is_on_the_front_and_what_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*SMALL, "--out", str(tmp_path), "--jobs", "1", "--clock", "150", "--budgets", "10%,100%", "--tm", "16"]
    assert cli.main(command) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n*  yolov8n  xc7z020  150    100%") == 1
    assert "no fit    1 of 2 points; yolov8n on xc7z020 with 10%: nothing fits: the smallest engine" in shown
    assert "points    2 priced, " in shown
    assert str(tmp_path / "explore.html") in shown
    assert cli.main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"]["taken_over"] == 2


def test_a_sam_in_scheme_dynamic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Few images a second show alike in the table, on the page and in JSON; what builds the design is a command that does."""
    command = ["explore", "sam_tiny", "--scheme", "dynamic", "--parts", "xc7z020", "--clock", "10", "--budgets", "100%"]
    command += ["--tm", "8", "--tn", "8", "--tp", "1", "--cores", "1", "--out", str(tmp_path), "--jobs", "1"]
    assert cli.main(command) == 0
    shown = capsys.readouterr().out
    (row,) = json.loads((tmp_path / "explore.json").read_text())["points"]
    fps, page = row["values"]["fps"], (tmp_path / "explore.html").read_text()
    assert row["fits"] and 1 < fps < 10
    assert f" {fps:.2f} " in shown and f'<td class="num">{fps:.2f}</td>' in page
    assert "hlsgen build sam_tiny --weights demo --part xc7z020 --clock 10 --scheme dynamic --tm 8 --tn 8" in page
    assert cli.main([*SMALL, "--scheme", "dynamic", "--out", str(tmp_path / "none")]) == 2
    assert "the engine cannot run strategy dynamic: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--objective", "fps,lutt"], "unknown objective 'lutt': the nearest are lut"),
        (["--tm", "16,x"], "Invalid value for '--tm': expected whole numbers with commas between, got '16,x'"),
        (["--parts", ","], "expected names with commas between, got ','"),
        (["--budgets", "50"], "a budget expects a share of 1% to 100%"),
        (["--tm", "20"], "--tm expects a multiple of 8"),
        (["--executor", "ray://head:10001"], "--executor ray:// is not supported"),
        (["--executor", "dask://127.0.0.1:1"], "no cluster answers at dask://127.0.0.1:1 (Connection refused)"),
    ],
)
def test_wrong_input_is_one_sentence(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*SMALL, "--out", str(tmp_path / "out"), *more]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err.splitlines()[-1]
    assert "Traceback" not in told.err
