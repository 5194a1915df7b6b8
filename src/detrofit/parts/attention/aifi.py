"""`aifi`: the stock attention of the encoder, on the last level only (arXiv:2304.08069)."""

import math
from functools import lru_cache
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.layers import Activation, DropoutRate, activation_module, attention
from detrofit.parts.registry import part
from detrofit.parts.slots import ENCODER_ATTENTION


def position_embedding(width: int, height: int, channels: int, temperature: float = 10000.0) -> Tensor:
    """The published sine-cosine embedding [1, width x height, channels], channels a multiple of 4.

    Its rows run with the width slowest while the tokens run with the height slowest: for square maps the transpose of
    what one expects, for rectangles scrambled. Published weights were trained with it, so it stays.
    """
    columns, rows = torch.meshgrid(torch.arange(width).float(), torch.arange(height).float(), indexing="ij")
    frequencies = torch.arange(channels // 4, dtype=torch.float32) / (channels // 4)
    frequencies = 1.0 / temperature**frequencies
    x = columns.flatten()[:, None] * frequencies[None]
    y = rows.flatten()[:, None] * frequencies[None]
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)[None]


@lru_cache(maxsize=64)
def _cached_embedding(width: int, height: int, channels: int, temperature: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return _embedding(width, height, channels, temperature, device)


def _embedding(width: int, height: int, channels: int, temperature: float, device: torch.device) -> Tensor:
    return position_embedding(width, height, channels, temperature).to(device)


class EncoderLayer(nn.Module):
    """A post-norm transformer encoder layer on tokens [B,N,C]; the position is added to queries and keys only."""

    def __init__(self, channels: int, heads: int, ffn_dim: int, dropout: float, activation: str) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.attention = nn.MultiheadAttention(channels, heads, dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.activation = activation_module(activation)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        x = self.norm1(x + self.drop(self._attend(x, position)))
        return self.norm2(x + self.drop(self.linear2(self.drop(self.activation(self.linear1(x))))))

    def _attend(self, x: Tensor, position: Tensor) -> Tensor:
        batch, tokens, channels = x.shape
        weight, bias = self.attention.in_proj_weight, self.attention.in_proj_bias
        query_key = functional.linear(x + position, weight[: 2 * channels], bias[: 2 * channels])
        value = functional.linear(x, weight[2 * channels :], bias[2 * channels :])
        query, key, value = (
            tensor.reshape(batch, tokens, self.heads, -1).transpose(1, 2)
            for tensor in (*query_key.chunk(2, dim=-1), value)
        )
        attended = attention(query, key, value, dropout=self.dropout if self.training else 0.0)
        return self.attention.out_proj(attended.transpose(1, 2).reshape(batch, tokens, channels))


@part(
    "aifi",
    fits=[ENCODER_ATTENTION],
    paper="arXiv:2304.08069",
    licence="Apache-2.0 original (RT-DETR)",
    channel_multiple=lambda options: math.lcm(4, options["heads"]),
)
class AIFI(nn.Module):
    """Attention-based intra-scale feature interaction: transformer encoder layers over the tokens of one map.

    With p the sine-cosine embedding of the places, a layer is y = norm(x + attention(x + p, x + p, x)), then
    norm(y + linear2(activation(linear1(y)))). [B,C,H,W] to the same; C must be a multiple of 4 and of `heads`.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        layers: Annotated[int, Field(ge=1, le=12, description="encoder layers, one after the other")] = 1,
        heads: Annotated[int, Field(ge=1, le=64, description="attention heads")] = 8,
        ffn_dim: Annotated[int, Field(ge=1, le=16384, description="hidden width of the feed-forward")] = 1024,
        dropout: DropoutRate = 0.0,
        activation: Activation = "gelu",
        temperature: Annotated[float, Field(gt=1, description="of the embedding; its longest wave")] = 10000.0,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.layers = [f"layer{index}" for index in range(layers)]
        for name in self.layers:
            self.add_module(name, EncoderLayer(in_channels, heads, ffn_dim, dropout, activation))

    def forward(self, x: Tensor) -> Tensor:
        channels, height, width = (int(side) for side in x.shape[1:])  # traced sizes are tensors
        # What torch.export and the like trace with must not outlive them in the cache.
        embedding = _cached_embedding if type(x) is Tensor else _embedding
        position = embedding(width, height, channels, self.temperature, x.device)
        tokens = x.flatten(2).transpose(1, 2)
        for name in self.layers:
            tokens = getattr(self, name)(tokens, position)
        return tokens.transpose(1, 2).unflatten(2, (height, width))
