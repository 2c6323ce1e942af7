"""What both of SAM's graph builders share: weights by name, and nodes called by the name of their tensor or module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn

State = Mapping[str, Tensor]


class Named:
    """A graph being built; every tensor and module is called by its node's name.

    Args:
        state: float32 weights by segment_anything's names.
        prefix: what the names used here are short for ("image_encoder.").
    """

    def __init__(self, state: State, prefix: str) -> None:
        self.state, self.prefix = state, prefix
        self.root, self.graph = nn.Module(), fx.Graph()

    def weight(self, name: str) -> Tensor:
        """The state dict's tensor ``prefix + name``."""
        return self.state[self.prefix + name].detach().float()

    def constant(self, name: str, value: Tensor) -> fx.Node:
        self.root.register_buffer(name, value.contiguous())
        return self.graph.create_node("get_attr", name, name=name)

    def call(self, name: str, function: Callable[..., Any], *args: Any) -> fx.Node:
        return self.graph.create_node("call_function", function, args, name=name)

    def module(self, name: str, module: nn.Module, x: fx.Node) -> fx.Node:
        self.root.add_module(name, module.requires_grad_(False))
        return self.graph.create_node("call_module", name, (x,), name=name)
