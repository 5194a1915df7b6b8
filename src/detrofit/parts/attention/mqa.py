"""`mqa`: MobileNetV4's mobile multi-query attention with spatial reduction (arXiv:2404.10518)."""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.layers import DropPath, DropPathRate, InitialScale, LayerScale, Residual
from detrofit.parts.registry import part
from detrofit.parts.slots import ENCODER_ATTENTION, STAGE_ATTENTION

Dim = Annotated[int, Field(ge=1, le=512, description="width of a head")]
Stride = Annotated[int, Field(ge=1, le=8, description="how much smaller the map is that is read; 1: no smaller")]


class ReducedProjection(nn.Module):
    """[B,C,H,W] to tokens [B,out,M] over a map reduced by a strided depthwise convolution with norm.

    With stride 1 it is not reduced.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, kernel: int) -> None:
        super().__init__()
        padding = (stride + kernel - 2) // 2
        self.reduce = nn.Identity() if stride == 1 else nn.Conv2d(
            in_channels, in_channels, kernel, stride, padding=padding, groups=in_channels, bias=False
        )  # fmt: skip
        self.norm = nn.Identity() if stride == 1 else nn.BatchNorm2d(in_channels)
        self.projection = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def reset_parameters(self) -> None:
        for module in (self.reduce, self.projection):
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.norm(self.reduce(x))).flatten(2)


@part(
    "mqa",
    fits=[STAGE_ATTENTION, ENCODER_ATTENTION],
    paper="arXiv:2404.10518",
    licence="Apache-2.0 originals (TensorFlow models, timm)",
)
class MobileMQA(nn.Module):
    """Mobile multi-query attention: many query heads, one key and value head over a spatially reduced map.

    x + scale(attention(norm(x))), [B,C,H,W] to the same. Head h is softmax(q_h k^T / sqrt(`key_dim`)) v, k and v being
    those of a map that a depthwise convolution of stride `kv_stride` makes smaller. With `query_stride` the queries are
    average-pooled and the result is raised bilinearly. `position_kernel` adds a depthwise convolution to the input
    before (0: none).

    Of the paper's two codes this is timm's. TensorFlow's differs in the norms' eps (1e-3) and takes square maps only.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        heads: Annotated[int, Field(ge=1, le=64, description="query heads")] = 4,
        key_dim: Dim = 64,
        value_dim: Dim = 64,
        kv_stride: Stride = 2,
        kv_kernel: Annotated[Literal[3, 5, 7], Field(description="kernel that reduces keys and values")] = 3,
        query_stride: Stride = 1,
        position_kernel: Annotated[
            Literal[0, 3, 5, 7], Field(description="kernel of the depthwise convolution that tells places; 0: none")
        ] = 0,
        layer_scale: InitialScale = 1e-5,
        drop_path: DropPathRate = 0.0,
        residual: Residual = True,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.residual = residual
        self.position = None if position_kernel == 0 else nn.Conv2d(
            in_channels, in_channels, position_kernel, padding=position_kernel // 2, groups=in_channels
        )  # fmt: skip
        self.norm = nn.BatchNorm2d(in_channels)
        self.pool = None if query_stride == 1 else nn.Sequential(
            nn.AvgPool2d(query_stride, ceil_mode=True), nn.BatchNorm2d(in_channels)
        )  # fmt: skip
        self.query = nn.Conv2d(in_channels, heads * key_dim, 1, bias=False)
        self.key = ReducedProjection(in_channels, key_dim, kv_stride, kv_kernel)
        self.value = ReducedProjection(in_channels, value_dim, kv_stride, kv_kernel)
        self.output = nn.Conv2d(heads * value_dim, in_channels, 1, bias=False)
        self.scale = LayerScale(in_channels, layer_scale) if layer_scale is not None else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def reset_parameters(self) -> None:
        for module in (self.query, self.output):
            nn.init.xavier_uniform_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.position is not None:
            x = x + self.position(x)
        y = self.drop_path(self.scale(self._attend(self.norm(x))))
        return x + y if self.residual else y

    def _attend(self, x: Tensor) -> Tensor:
        queries = self.query(x if self.pool is None else self.pool(x))
        height, width = queries.shape[-2:]
        query = queries.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        key, value = (
            tensor.transpose(1, 2)[:, None].expand(-1, self.heads, -1, -1) for tensor in (self.key(x), self.value(x))
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        attended = attended.transpose(2, 3).flatten(1, 2).unflatten(2, (height, width))
        if self.pool is not None:
            attended = functional.interpolate(attended, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return self.output(attended)
