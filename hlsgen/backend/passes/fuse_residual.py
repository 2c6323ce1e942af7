"""Pass `fuse_residual`: a convolution and the addition that follows it are one machine op.

1. An addition of two different tensors, of which one is computed by a Conv2D (with its activation, if it has one) that
   nothing else reads and that is no output of the network, is removed.
2. Where both are, the later one in topological order takes the addition.
3. The Conv2D gets `residual` (the other tensor, also its second input), `residual_quant` (its own quantization before
   the addition) and, where it has none yet, `conv_name`; it takes the addition's name, output tensor, quantization and
   place in the order, which is behind both operands.
4. A Conv2D that already has a residual keeps it: a second addition stays a layer. So does one behind a Conv2D whose channels
   become pixels.

Before: supported layers, fuse_activation. After: no addition of different tensors reads a convolution of its own that
has no residual.
"""

from typing import Any

from hls4ml.model.layers import Conv2D, Merge
from hls4ml.model.optimizer import OptimizerPass

from hlsgen.backend.rewrite import producer, take_over, uses


class FuseResidual(OptimizerPass):  # type: ignore[misc]
    def match(self, node: Any) -> bool:
        return self._conv(node) is not None

    def transform(self, model: Any, node: Any) -> bool:
        conv = self._conv(node)
        own = conv.outputs[0]
        (other,) = (tensor for tensor in node.inputs if tensor != own)
        conv.set_attr("residual", other)
        conv.set_attr("residual_quant", conv.get_attr("quant")[own])
        conv.set_attr("conv_name", conv.get_attr("conv_name", conv.name))
        conv.inputs.append(other)
        take_over(model, conv, node)
        return True

    @staticmethod
    def _conv(node: Any) -> Any:
        """The convolution that may take the addition `node`, or None."""
        if not isinstance(node, Merge) or node.get_attr("op") != "add" or node.inputs[0] == node.inputs[1]:
            return None
        model = node.model
        operands = [producer(model, tensor) for tensor in node.inputs]
        fit = [
            layer
            for layer in operands
            if isinstance(layer, Conv2D)
            and layer.get_attr("residual") is None
            and not layer.get_attr("depth_to_space")
            and uses(model, layer.outputs[0]) == 1
        ]
        order = list(model.get_layers())
        return max(fit, key=order.index, default=None)
