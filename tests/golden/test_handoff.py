"""The hand-off's text for one target of each kind: what a reader of the project sees, byte for byte."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hlsgen import targets
from hlsgen.handoff.platform import system, templates_of
from hlsgen.render import ProjectFacts, render
from tests.numerics.test_engine import ENGINES, random_program


@pytest.mark.parametrize(("name", "cores"), [("pynq-z2", 2), ("kv260", 1), ("alveo-u250", 2), ("xcvc1902", 1)])
def test_the_text_of_a_hand_off(name: str, cores: int, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    program, target = random_program(1, "fixed", ENGINES[0]), targets.find(name)
    render(program, tmp_path, ProjectFacts("random", target.vivado, target.clock.default_mhz, "8x8", 25, cores, name))
    files = [file for _, file in templates_of(system(target, program, target.clock.default_mhz, cores))]
    text = "".join(f"==== {file}\n{(tmp_path / file).read_text()}" for file in files if file != "tcl/tools.sh")
    golden(f"handoff_{name}.txt", text)
