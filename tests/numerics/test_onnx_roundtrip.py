"""Random networks written as FP32 ONNX: the same network comes back, and ONNX Runtime computes the same."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import fx, nn

from hlsgen.frontend.onnx_read import read_fp32
from hlsgen.frontend.onnx_write import shapes, write_fp32
from tests.unit._nets import Net, c2f_net, values

ACTIVATIONS = [nn.SiLU, nn.ReLU, lambda: nn.LeakyReLU(0.2), nn.Sigmoid, nn.Hardswish, nn.GELU]


@st.composite
def networks(draw: st.DrawFn) -> tuple[fx.GraphModule, tuple[int, int, int]]:
    """A network of random nodes and its image's shape."""
    channels = draw(st.integers(1, 5))
    net = Net(channels, draw(st.integers(0, 99)))
    live: dict[fx.Node, float] = {net.image: 1.0}  # a map's size, in images
    for i in range(draw(st.integers(1, 9))):
        x = draw(st.sampled_from(sorted(live, key=lambda n: n.name)))
        name, size = f"n{i}", live[x]
        same = [n for n in live if live[n] == size]
        kind = draw(st.sampled_from(["conv", "deep", "act", "split", "cat", "add", "pool", "down", "up"]))
        if kind == "conv":
            live[net.conv(name, x, draw(st.integers(1, 6)), draw(st.sampled_from([1, 3, 5])), 1)] = size
        elif kind == "deep":
            live[net.conv(name, x, 2 * net.channels[x], 3, 1, nn.SiLU(), groups=net.channels[x])] = size
        elif kind == "act":
            live[net.module(name, draw(st.sampled_from(ACTIVATIONS))(), x)] = size
        elif kind == "split" and net.channels[x] > 1:
            cut = draw(st.integers(1, net.channels[x] - 1))
            live.update(dict.fromkeys(net.split(name, x, [cut, net.channels[x] - cut]), size))
        elif kind == "cat":
            live[net.cat(name, [x, draw(st.sampled_from(sorted(same, key=lambda n: n.name)))])] = size
        elif kind == "add":
            live[net.add(name, x, x)] = size
        elif kind == "pool":
            live[net.module(name, nn.MaxPool2d(draw(st.sampled_from([3, 5])), 1, 1), x)] = (
                -1.0 - i
            )  # a size that meets no other
        elif kind == "down" and size > 0:
            live[net.conv(name, x, 3, 3, 2)] = size / 2
        elif kind == "up" and size in (1.0, 0.5):
            live[net.module(name, nn.Upsample(scale_factor=2, mode="nearest"), x)] = size * 2
    made = [n for n in live if n is not net.image]
    if not made:
        made = [net.conv("last", net.image, 2)]
    ends = [n for n in made if not n.users] or made[-1:]
    return net.finish(ends), (channels, 4 * draw(st.integers(4, 6)), 4 * draw(st.integers(4, 6)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(networks(), st.integers(0, 9))
def test_random_network_round_trips(
    tmp_path: Path, drawn: tuple[fx.GraphModule, tuple[int, int, int]], seed: int
) -> None:
    network, shape = drawn
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))
    found = values(network, image)
    assert {k: tuple(v.shape[1:]) for k, v in found.items() if k != "output"} == shapes(network, shape)
    path = tmp_path / "n.onnx"
    write_fp32(network, shape, path, "n")
    first = path.read_bytes()
    again, read_shape = read_fp32(path)
    assert read_shape == shape
    assert {n.name for n in again.graph.nodes} <= {n.name for n in network.graph.nodes}
    with torch.no_grad():
        expected, got = network(image), again(image)
    results = onnxruntime.InferenceSession(first, providers=["CPUExecutionProvider"]).run(
        None, {"image": image.numpy()}
    )
    for a, b, c in zip(expected, got, results, strict=True):
        assert torch.equal(a, b)
        np.testing.assert_allclose(c, a.numpy(), rtol=1e-4, atol=1e-4)
    write_fp32(again, shape, path, "n")
    assert path.read_bytes() == first or len(again.graph.nodes) < len(network.graph.nodes)


def test_the_c2f_network_keeps_its_nodes(tmp_path: Path) -> None:
    network = c2f_net()
    write_fp32(network, (3, 32, 48), tmp_path / "n.onnx", "n")
    again, _ = read_fp32(tmp_path / "n.onnx")
    assert [n.name for n in again.graph.nodes] == [n.name for n in network.graph.nodes]
