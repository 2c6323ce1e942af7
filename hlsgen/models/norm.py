"""LayerNorm in the network's vocabulary: over the channels of each pixel of a map."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    """LayerNorm of maps [N, C, H, W] over C, as of tokens: (x - mean) / sqrt(variance + eps) * weight + bias."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x.movedim(1, -1), (x.shape[1],), self.weight, self.bias, self.eps)
        return normed.movedim(-1, 1)
