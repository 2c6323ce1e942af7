"""Which tensors share a scale, which convolutions have a wide pre-activation, what FX mode fuses."""

import operator

from torch import Tensor, nn

from hlsgen.quantize.native import fused_relus
from hlsgen.quantize.structure import activations_fed, is_tensor, outputs, placeholder, shared_scales, sources
from tests.quantize_nets import mixed, traced


def test_moved_tensors_have_the_scale_of_what_they_move() -> None:
    share = shared_scales(mixed())
    joined = {name for name, root in share.items() if root == share["cat"]}
    # a1 goes through the pool and the upsampling into the cat; a3 through the split, whose other half goes along
    assert joined == {"a1", "pool", "up", "a3", "split", "getitem", "getitem_1", "cat"}
    assert len({share[n] for n in ("c1", "c3", "a2", "a4", "add", "add_1", "cat")}) == 7


def test_only_what_makes_values_is_observed() -> None:
    network = mixed()
    moved = {n.name for n in network.graph.nodes} - sources(network)
    assert moved == {"pool", "up", "split", "getitem", "getitem_1", "cat", "output"}


class TwoReaders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 4, 1), nn.SiLU(), nn.ReLU()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(image)
        return self.first(y), self.second(y)


def test_a_convolution_with_two_readers_is_no_pre_activation() -> None:
    assert activations_fed(traced(TwoReaders())) == {}
    assert fused_relus(traced(TwoReaders())) == {}
    fed = {name: node.name for name, node in activations_fed(mixed()).items()}
    assert fed == {"c1": "a1", "c2": "a2", "c3": "a3", "c4": "a4"}
    assert fused_relus(mixed()) == {"c2": "a2", "add_1": "a6"}


def test_ends() -> None:
    network = mixed()
    assert placeholder(network).name == "image"
    assert [n.name for n in outputs(network)] == ["a5", "a6", "a7", "c5"]
    assert [n.name for n in network.graph.nodes if not is_tensor(n)] == ["split", "output"]
    assert sum(n.target is operator.getitem for n in network.graph.nodes) == 2
