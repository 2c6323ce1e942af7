"""layers.json and weights.npz: what is written is read, in the same bytes, and anything else is refused."""

import json
from pathlib import Path

import pytest

from hlsgen.backend.graph import layers_of, run_passes
from hlsgen.backend.store import JSON, NPZ, read, save
from hlsgen.errors import HlsgenError
from hlsgen.models.attention import cropped, depth_to_space
from hlsgen.quantize.spec import SCHEMES, Scheme
from tests.unit._backend_nets import Net, bottleneck, equal, graph_of


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("fused", [False, True])
def test_read_gives_back_what_save_wrote(tmp_path: Path, scheme: Scheme, fused: bool) -> None:
    graph = graph_of(bottleneck(), (3, 16, 16), scheme)
    if fused:
        run_passes(graph)
    layers = layers_of(graph)
    save(graph, tmp_path / "a")
    again = read(tmp_path / "a", "net", "out")
    assert equal(layers_of(again), layers)
    save(again, tmp_path / "b")
    for name in (JSON, NPZ):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_passes_go_on_from_what_was_read(tmp_path: Path) -> None:
    graph = graph_of(bottleneck(), (3, 16, 16))
    save(graph, tmp_path)
    again = read(tmp_path, "net", "out")
    run_passes(graph)
    run_passes(again)
    assert equal(layers_of(again), layers_of(graph))
    fused = layers_of(again)
    run_passes(again)
    assert equal(layers_of(again), fused)


def test_channels_that_became_pixels_have_their_shape_again(tmp_path: Path) -> None:
    net = Net()
    x = net.function("pixels", depth_to_space, net.conv("conv", net.image(), 3, 16, 1), 2)
    graph = graph_of(net.outputs(net.silu("act", net.function("cut", cropped, x, 3, 4))), (3, 2, 2))
    run_passes(graph)
    save(graph, tmp_path)
    again = read(tmp_path, "net", "out")
    assert [layer["name"] for layer in layers_of(again).layers] == ["image", "pixels", "cut", "act"]
    for name, shape in {"pixels": [4, 4, 4], "cut": [4, 3, 4], "act": [4, 3, 4]}.items():
        assert list(graph.output_vars[name].shape) == list(again.output_vars[name].shape) == shape
    run_passes(again)
    assert equal(layers_of(again), layers_of(graph))


def test_two_saves_at_different_times_are_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save(graph_of(bottleneck(), (3, 16, 16)), tmp_path / name)
    assert (tmp_path / "a" / NPZ).read_bytes() == (tmp_path / "b" / NPZ).read_bytes()
    lines = (tmp_path / "a" / JSON).read_text().splitlines()
    assert len(lines) == len(layers_of(graph_of(bottleneck(), (3, 16, 16))).layers) + 2  # a layer a line


def test_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HlsgenError, match=r"expected .*layers.json and weights.npz as this version"):
        read(tmp_path, "net", "out")
    save(graph_of(bottleneck(), (3, 16, 16)), tmp_path)
    stored = json.loads((tmp_path / JSON).read_text())
    (tmp_path / JSON).write_text(json.dumps({**stored, "format": 99}))
    with pytest.raises(HlsgenError, match="format 99"):
        read(tmp_path, "net", "out")
    (tmp_path / JSON).write_text(json.dumps({**stored, "layers": [{"class_name": "Malice"}]}))
    with pytest.raises(HlsgenError, match="Malice"):
        read(tmp_path, "net", "out")
    (tmp_path / JSON).write_text(json.dumps(stored))
    (tmp_path / NPZ).write_bytes((tmp_path / NPZ).read_bytes()[:-200])
    with pytest.raises(HlsgenError, match="build again"):
        read(tmp_path, "net", "out")
