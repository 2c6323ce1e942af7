"""Rescaled networks: free scales whose ratios are powers of two wherever the hardware shifts."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hlsgen.errors import HlsgenError
from hlsgen.models.attention import attend, attention_scores
from hlsgen.program.arithmetic import shift_of
from hlsgen.quantize import quantize
from hlsgen.quantize.recipe import Recipe
from hlsgen.quantize.refine import FIELDS, WEIGHED, _drawn
from hlsgen.quantize.rescale import free_groups, moving_together
from hlsgen.quantize.spec import QuantSpec
from hlsgen.quantize.structure import activations_fed, module_of, shared_scales
from tests.quantize_nets import mixed, photographs, traced


def spec_of(network: torch.fx.GraphModule) -> QuantSpec:
    return quantize(network, photographs(3), "fixed", recipe=Recipe(rescale=True)).spec


def test_ratios_are_powers_of_two_where_the_hardware_shifts() -> None:
    network = mixed()
    spec = spec_of(network)
    free = [q.scale for q in spec.tensors.values() if np.frexp(q.scale)[0] != 0.5]
    assert len(set(free)) >= 3
    for node in network.graph.nodes:
        out = spec.tensors.get(node.name)
        if isinstance(module_of(network, node), nn.Conv2d):
            x = spec.tensors[node.all_input_nodes[0].name]
            assert all(0 <= shift_of(x.scale * w / out.scale) <= 31 for w in spec.convs[node.name].weight_scale)
        if node.target is torch.add:
            for source in node.all_input_nodes:
                shift_of(spec.tensors[source.name].scale / out.scale)


def test_eight_bits_hold_what_was_seen() -> None:
    """An image of 0..1 takes all 256 integers, where powers of two leave half of them."""
    network = mixed()
    q = spec_of(network).tensors["image"]
    levels = np.unique(np.clip(np.rint(np.linspace(0, 1, 1000) / q.scale) + q.zero_point, q.low, q.high))
    assert len(levels) > 230
    plain = quantize(network, photographs(3), "fixed").spec.tensors["image"]
    assert plain.zero_point == 0 and plain.scale == 2.0**-7


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.act = nn.Conv2d(3, 6, 1), nn.ReLU()
        self.q, self.k, self.v, self.last = (nn.Conv2d(6, 6, 1) for _ in range(4))

    def forward(self, image: Tensor) -> Tensor:
        x = self.act(self.first(image))
        made = attend(attention_scores(self.q(x), self.k(x), 2), self.v(x), 2)
        return self.last(torch.add(made, x))  # type: ignore[no-any-return]


def test_attention_keeps_powers_of_two() -> None:
    network = _attention()
    share = shared_scales(network)
    free = free_groups(network, share)
    assert {"image", "last"} <= set(free) and not {"q", "k", "v", "attend", "add", "act"} & set(free)
    spec = spec_of(network)
    for name in ("q", "k", "v", "add", "act"):
        assert np.frexp(spec.tensors[name].scale)[0] == 0.5 and spec.tensors[name].zero_point == 0


def _attention() -> torch.fx.GraphModule:
    from torch import fx

    class Tracer(fx.Tracer):
        def __init__(self) -> None:
            super().__init__(autowrap_functions=(attend, attention_scores))

    module = Attention().eval().requires_grad_(False)
    return fx.GraphModule(module, Tracer().trace(module))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU()

    def forward(self, image: Tensor) -> Tensor:
        return self.b(self.act(self.a(image)))  # type: ignore[no-any-return]


def test_what_moves_together_in_training() -> None:
    network = traced(Plain())
    assert set(activations_fed(network)) == {"a"}
    found = moving_together(network, shared_scales(network))
    assert found["act"] == found["b"] != found["image"]  # b has no wide pre-activation that could take the factor up
    joined = free_groups(network, shared_scales(network))
    assert joined["act"] != joined["b"]


@pytest.mark.parametrize(("ratio", "shift"), [(2.0**-9, 9), (float(np.float32(0.1)) / 0.1 * 2.0**3, -3), (1.0, 0)])
def test_shift_of(ratio: float, shift: int) -> None:
    assert shift_of(ratio) == shift


@pytest.mark.parametrize("ratio", [3.0, 1.00001, 0.0, -1.0, float("nan"), float("inf")])
def test_no_shift(ratio: float) -> None:
    with pytest.raises(HlsgenError, match="ratios of powers of two, got a ratio of"):
        shift_of(ratio)


def test_positions_are_drawn_by_relevance() -> None:
    relevant = [torch.zeros(100, 200), torch.zeros(100, 200)]
    relevant[1][7, 3] = 5.0
    drawn = _drawn(40000, relevant, torch.Generator().manual_seed(0))
    assert len(drawn) == WEIGHED and int((drawn == 20000 + 7 * 200 + 3).sum()) >= int(0.9 * WEIGHED)
    assert len(drawn.unique()) > 0.09 * WEIGHED  # the others evenly
    evenly = _drawn(FIELDS + 5, [], torch.Generator().manual_seed(0))
    assert len(evenly.unique()) == FIELDS
