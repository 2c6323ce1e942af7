"""The plugin: hls4ml finds it, registering again changes nothing, and it leaves other backends alone."""

import subprocess
import sys

import hls4ml
import pytest
from hls4ml.backends import get_backend
from hls4ml.model.flow import get_flow
from hls4ml.model.layers import layer_map
from hls4ml.model.optimizer import get_backend_passes

from hlsgen.backend.plugin import register
from hlsgen.errors import HlsgenError


def test_hls4ml_finds_the_backend_by_its_entry_point() -> None:
    """In a fresh interpreter that imports hls4ml only (tests may run without the package installed: then skip)."""
    from importlib.metadata import entry_points

    if not entry_points(group="hls4ml.backends", name="Hlsgen"):
        pytest.skip("hlsgen is not installed, so its entry point is not known")
    code = "import hls4ml; print(hls4ml.backends.get_available_backends()[-1])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2:] == ["hlsgen", ""]
    assert "WARN" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "first", ["hlsgen.backend.passes.adopt", "hlsgen.backend.backend", "hlsgen.backend.plugin", "hls4ml.model.graph"]
)
def test_any_module_may_be_imported_first(first: str) -> None:
    code = f"import {first}, hlsgen.backend; from hls4ml.backends import get_backend; print(get_backend('Hlsgen').name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("Hlsgen\n", "")


def test_registering_again_changes_nothing() -> None:
    backend, passes = get_backend("Hlsgen"), get_backend_passes("Hlsgen")
    register()
    register(register_backend=hls4ml.backends.register_backend, register_writer=None)
    assert get_backend("Hlsgen") is backend
    assert get_backend_passes("Hlsgen") == passes


def test_every_pass_is_registered_and_in_a_flow() -> None:
    passes = set(get_backend_passes("Hlsgen"))
    names = ("set_types", "supported", "fuse_activation", "fuse_residual", "fuse_depth_to_space")
    names += ("check_shapes", "adopt")
    assert passes == {f"hlsgen:{name}" for name in names}
    flows = [get_flow(f"hlsgen:{name}") for name in ("types", "supported", "fuse", "passes", "adopt", "convert")]
    assert passes == {name for flow in flows for name in flow.optimizers}
    assert get_backend("hlsgen").get_default_flow() == "hlsgen:convert"


def test_hls4mls_own_layers_are_left_alone() -> None:
    assert layer_map["Concatenate"].__module__ == "hls4ml.model.layers"
    assert {layer_map[name].__module__ for name in ("HlsgenConcatenate", "HlsgenSplit")} == {"hlsgen.backend.layers"}


def test_building_without_vitis_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    from tests.unit._backend_nets import bottleneck, graph_of

    monkeypatch.setenv("PATH", "")
    with pytest.raises(HlsgenError, match="expected vitis_hls on the PATH; install Vitis HLS"):
        get_backend("Hlsgen").build(graph_of(bottleneck(), (3, 16, 16)))
