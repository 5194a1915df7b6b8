"""The numbers of the frame that are no part's: levels, widths, queries, decoder. One flat, validated record."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

STRIDES = (4, 8, 16, 32)


class Frame(BaseModel):
    """What `model.KEY` settings change. Defaults are RT-DETR-R18's (arXiv:2304.08069)."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    strides: tuple[int, ...] = Field((8, 16, 32), description="strides of the levels; 4 helps small objects")
    hidden_dim: int = Field(256, ge=32, le=1024, multiple_of=8, description="width of the encoder")
    decoder_dim: int = Field(256, ge=32, le=1024, multiple_of=8, description="width of the decoder")
    decoder_layers: int = Field(3, ge=1, le=12, description="decoder layers that are trained")
    eval_decoder_layers: int | None = Field(
        None, ge=1, le=12, description="decoder layers used at inference (default: all)"
    )
    heads: int = Field(8, ge=1, le=32, description="attention heads of the decoder")
    decoder_ffn_dim: int = Field(1024, ge=32, le=8192, description="hidden width of the decoder's feed-forward")
    points: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(
        (4,), description="sampling points a level and head; one number for all levels, or one for each"
    )
    sampling: Literal["bilinear", "discrete"] = Field(
        "bilinear", description="how the decoder reads its points; discrete needs no grid sampling (arXiv:2407.17140)"
    )
    query_selection: Literal["default", "one2many", "agnostic"] = Field(
        "default", description="how the encoder's best positions become queries (arXiv:2407.17140)"
    )
    learnt_queries: bool = Field(
        False, description="queries start from learnt vectors, and take the boxes alone from the encoder"
    )
    num_queries: int = Field(300, ge=1, le=3000, description="object queries")
    max_detections: int = Field(300, ge=1, le=3000, description="detections kept for an image")
    num_denoising: int = Field(100, ge=0, le=1000, description="denoising queries in training; 0 switches them off")
    label_noise: float = Field(0.5, ge=0, le=1, description="half of it is the share of flipped denoising labels")
    box_noise: float = Field(1.0, ge=0, le=2, description="noise of denoising boxes, in half sizes")

    @field_validator("strides")
    @classmethod
    def _check_strides(cls, strides: tuple[int, ...]) -> tuple[int, ...]:
        start = STRIDES.index(strides[0]) if strides and strides[0] in STRIDES else 0
        if strides != STRIDES[start:]:
            raise ValueError("strides must run to 32 in steps of two, e.g. [8, 16, 32] or [4, 8, 16, 32]")
        return strides

    @model_validator(mode="after")
    def _check_together(self) -> Frame:
        if len(self.points) not in (1, len(self.strides)):
            raise ValueError(f"points takes one number or one for each of the {len(self.strides)} levels")
        if self.eval_decoder_layers is not None and self.eval_decoder_layers > self.decoder_layers:
            raise ValueError("eval_decoder_layers cannot exceed decoder_layers")
        if self.decoder_dim % self.heads:
            raise ValueError("decoder_dim must be a multiple of heads")
        return self

    @property
    def points_of_levels(self) -> tuple[int, ...]:
        """Sampling points for each level."""
        return self.points * len(self.strides) if len(self.points) == 1 else self.points
