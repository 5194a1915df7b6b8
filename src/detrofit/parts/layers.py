"""What several parts share: options, activations, a convolution with its norm, drop path, padding to a multiple."""

from __future__ import annotations

import copy
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detrofit.randomness import derive_seed

Activation = Annotated[
    Literal["relu", "relu6", "leaky_relu", "silu", "gelu", "hardswish"],
    Field(description="the activation that the equation above names"),
]
DropPathRate = Annotated[
    float, Field(ge=0, lt=1, description="share of samples whose branch is dropped in training (stochastic depth)")
]
DropoutRate = Annotated[float, Field(ge=0, lt=1, description="share of values that are dropped in training")]
InitialScale = Annotated[
    float | None, Field(gt=0, le=10, description="first value of a learnt factor a channel; none: no factors")
]
Residual = Annotated[bool, Field(description="the part's own sum with its input, or shortcut, where it has one")]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
}
_INPLACE = ("relu", "relu6", "leaky_relu", "silu", "hardswish")


def activation_module(name: str | None) -> nn.Module:
    """The activation of that name, or the identity for None."""
    if name is None:
        return nn.Identity()
    return _ACTIVATIONS[name](inplace=True) if name in _INPLACE else _ACTIVATIONS[name]()


def make_divisible(value: float, divisor: int = 8) -> int:
    """`value` rounded to a multiple of `divisor`, never by more than 10 % down (arXiv:1801.04381)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class ConvNorm(nn.Module):
    """A convolution without bias, padded to keep the size at stride 1, then batch norm, then an optional activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        activation: str | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=(kernel_size - 1) // 2, groups=groups, bias=False
        )
        self.norm: nn.Module = nn.BatchNorm2d(out_channels, eps=eps)
        self.activation = activation_module(activation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        if y.requires_grad and y.device.type == "cpu":
            _make_gradient_dense(y)
        return self.activation(y)

    def fuse(self) -> None:
        """Fold the norm into the convolution, in place (eval statistics)."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv, self.norm = folded(self.conv, self.norm), nn.Identity()


class Depthwise(nn.Conv2d):
    """A biased depthwise convolution at stride 1 that keeps the size, for an odd kernel (height, width).

    [B,C,H,W] to the same. On a processor, wide kernels over few channels run in float32 even under autocast: oneDNN, as
    torch 2.14 brings it, never ends building its bf16 kernel for them (seen at 8 and 16 channels, kernels 15 wide,
    maps 40 wide).
    """

    def __init__(self, channels: int, kernel_size: tuple[int, int]) -> None:
        padding = (kernel_size[0] // 2, kernel_size[1] // 2)
        super().__init__(channels, channels, kernel_size, padding=padding, groups=channels)
        self._in_float32 = channels <= 16 and kernel_size[1] >= 15

    def forward(self, x: Tensor) -> Tensor:
        if self._in_float32 and torch.is_autocast_enabled("cpu"):
            assert self.bias is not None
            with torch.autocast("cpu", enabled=False):
                weight, bias = self.weight.float(), self.bias.float()
                return functional.conv2d(x.float(), weight, bias, padding=self.padding, groups=self.groups)
        return super().forward(x)


def _make_gradient_dense(x: Tensor) -> None:
    """Have the gradient of `x` laid out as `x` is.

    Batch norm on a CPU takes ten times as long with the slice of a larger one that a concatenation gives back. For a
    single picture (torch 2.14) it reads the gradient that comes back from tokens `[1,N,C]` in a wrong order.
    """
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    x.register_hook(lambda gradient: gradient.contiguous(memory_format=memory_format))


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One biased convolution equal to `conv` followed by `norm` in eval mode."""
    weight, bias = folded_weights(conv, norm)
    result = biased_copy(conv)
    result.weight.data.copy_(weight)
    result.bias.data.copy_(bias)  # type: ignore[union-attr]
    return result


def folded_weights(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of `conv` followed by `norm` in eval mode."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = conv.bias if conv.bias is not None else torch.zeros_like(norm.running_mean)
    return conv.weight * scale[:, None, None, None], norm.bias + (bias - norm.running_mean) * scale


def biased_copy(conv: nn.Conv2d) -> nn.Conv2d:
    """A copy of `conv` that has a bias, zero where there was none."""
    result = copy.deepcopy(conv)
    if result.bias is None:
        result.bias = nn.Parameter(torch.zeros_like(conv.weight[:, 0, 0, 0]))
    return result


def attention(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention of queries `[B,H,Q,C]` to keys and values `[B,H,K,C]`: `[B,H,Q,C]`.

    `visible` is bool `[Q,K]`: row may see column. `dropout` is the share of weights set to zero, 0..1.
    """
    if query.device.type != "cpu" or query.element_size() >= 4:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=visible, dropout_p=dropout)
    # torch's kernel for a CPU takes longer in half precision than in float32 with the casts, most of all backwards.
    with torch.autocast("cpu", enabled=False):
        query32, key, value = query.float(), key.float(), value.float()
        mixed = functional.scaled_dot_product_attention(query32, key, value, attn_mask=visible, dropout_p=dropout)
    return mixed.to(query.dtype)


class LayerScale(nn.Module):
    """A learnt factor a channel (arXiv:2103.17239)."""

    def __init__(self, channels: int, initial: float) -> None:
        super().__init__()
        self.initial = initial
        self.scale = nn.Parameter(torch.full((channels,), initial))

    def reset_parameters(self) -> None:
        nn.init.constant_(self.scale, self.initial)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.view(1, -1, 1, 1)


class DropPath(nn.Module):
    """Stochastic depth: in training the branch of a sample is dropped with probability `rate` (arXiv:1603.09382).

    Which samples are dropped comes from the stream that `seed_drop_paths` gives for a step, and from torch's global
    generator where none was given.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.stream: tuple[int, int, int] | None = None  # seed, rank, world size

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        kept = (self._draws(x.shape[0]) >= self.rate).to(x.device, x.dtype) / (1.0 - self.rate)
        return x * kept.view(-1, *([1] * (x.ndim - 1)))

    def _draws(self, batch: int) -> Tensor:
        if self.stream is None:
            return torch.rand(batch)
        seed, rank, world_size = self.stream
        # The draws of the global batch, so that the number of processes changes no sample's fate.
        draws = torch.rand(batch * world_size, generator=torch.Generator().manual_seed(seed))
        return draws[rank * batch : (rank + 1) * batch]


def seed_drop_paths(model: nn.Module, seed: int, step: int, rank: int = 0, world_size: int = 1) -> None:
    """Give every `DropPath` in `model` its stream for this step: (seed, step, module name)."""
    for name, module in model.named_modules():
        if isinstance(module, DropPath):
            module.stream = (derive_seed(seed, "drop_path", step, name), rank, world_size)


class PadToMultiple(nn.Module):
    """Pads the map with zeros at the bottom and right to a multiple of `multiple`, applies `body`, crops the result.

    [B,C,H,W] to [B,Cout,ceil(H/s),ceil(W/s)], s being the stride of `body`.
    """

    def __init__(self, body: nn.Module, multiple: int) -> None:
        super().__init__()
        self.body = body
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = (-x.shape[-2]) % self.multiple, (-x.shape[-1]) % self.multiple
        if not bottom and not right:
            return self.body(x)
        y = self.body(functional.pad(x, (0, right, 0, bottom)))
        stride = (x.shape[-2] + bottom) // y.shape[-2]
        return y[..., : -(-x.shape[-2] // stride), : -(-x.shape[-1] // stride)]
