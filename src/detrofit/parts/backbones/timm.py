"""`timm`: any backbone of the timm library that gives feature maps."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.errors import DetrofitError, nearest
from detrofit.parts.folding import fold_norms
from detrofit.parts.layers import DropPath, DropPathRate
from detrofit.parts.registry import part
from detrofit.parts.slots import BACKBONE


@part(
    "timm",
    fits=[BACKBONE],
    paper="github.com/huggingface/pytorch-image-models",
    licence="Apache-2.0 library; each model's weights have their own licence",
)
class TimmBackbone(nn.Module):
    """A features-only model of timm by name. [B,3,H,W] in 0..1 to a list of maps for each of `strides`.

    `mean` and `std` are those that the model was trained with. Building never downloads: pretrained weights belong to
    training. Raises DetrofitError for an unknown name, or a model without maps of the strides asked for.
    """

    def __init__(
        self,
        strides: Sequence[int] = (8, 16, 32),
        *,
        name: Annotated[str, Field(examples=["resnet10t"], description="timm's name of the model")],
        drop_path: DropPathRate = 0.0,
        out_indices: Annotated[
            tuple[int, ...] | None, Field(description="timm's numbers of the maps; none: the deepest of each stride")
        ] = None,
    ) -> None:
        super().__init__()
        self.timm_arguments: dict[str, Any] = {"model_name": name, "features_only": True, "pretrained": False}
        if drop_path:
            self.timm_arguments["drop_path_rate"] = drop_path
        chosen = out_indices or _indices_of(name, strides)
        self.timm_arguments["out_indices"] = chosen
        self.net = self.new_net()
        self.strides = tuple(self.net.feature_info.reduction())
        self.channels = tuple(self.net.feature_info.channels())
        if self.strides != tuple(strides):
            raise DetrofitError(f"timm model '{name}' gives strides {self.strides} at {chosen}, not {tuple(strides)}")
        config = self.net.default_cfg if hasattr(self.net, "default_cfg") else self.net.pretrained_cfg
        self.mean = tuple(config["mean"])
        self.std = tuple(config["std"])
        _use_own_drop_paths(self.net)

    def reset_parameters(self) -> None:
        """timm's own initial values for this model, drawn anew."""
        self.net.load_state_dict(self.new_net().state_dict())

    def new_net(self) -> Any:
        """timm's model with fresh initial values, as it stands in `net`."""
        return _create(self.timm_arguments["model_name"], self.timm_arguments)

    def fuse(self) -> None:
        """timm's own merging of branches, then norms into convolutions, in place (eval statistics)."""
        from timm.utils import reparameterize_model

        reparameterize_model(self.net, inplace=True)
        fold_norms(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.net(x)


def _create(name: str, arguments: dict[str, Any]) -> Any:
    import timm

    try:
        return timm.create_model(**arguments)
    except Exception as error:  # each of timm's networks refuses arguments in its own way
        known = timm.list_models()
        if name.split(".")[0] in known:
            raise DetrofitError(f"timm model '{name}' cannot be built as a backbone: {_reason(error)}") from error
        raise DetrofitError(f"timm has no model '{name}'{nearest(name, known)}") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _indices_of(name: str, strides: Sequence[int]) -> tuple[int, ...]:
    """The feature indices whose strides are those asked for: the deepest map of each stride that is no head."""
    with torch.device("meta"):
        info = _create(name, {"model_name": name, "features_only": True, "pretrained": False}).feature_info
    reductions = info.reduction()
    missing = sorted(set(strides) - set(reductions))
    if missing:
        raise DetrofitError(f"timm model '{name}' has no map of stride {missing[0]}; it has {sorted(set(reductions))}")
    indexed = list(zip(info.out_indices, reductions))
    return tuple(max(index for index, stride in indexed if stride == wanted) for wanted in strides)


def _use_own_drop_paths(net: nn.Module) -> None:
    """timm's drop path draws from the global generator; ours has a stream of its own for each module and step."""
    from timm.layers import DropPath as TimmDropPath

    for module in list(net.modules()):
        for child_name, child in list(module.named_children()):
            if isinstance(child, TimmDropPath):
                setattr(module, child_name, DropPath(child.drop_prob or 0.0))
