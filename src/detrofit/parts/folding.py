"""Folding norms into convolutions inside networks of other libraries, where tracing proves that it changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import fx, nn

from detrofit.parts.layers import folded


class _Tracer(fx.Tracer):
    """Follows the calls among modules without children; what happens inside these does not matter."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in _norm_types() or not any(True for _ in m.children())


def fold_norms(network: nn.Module) -> int:
    """Fold every batch norm that follows a convolution into it, in place (eval statistics); how many there were.

    Only where the traced graph shows that the norm alone reads the convolution's output and that both run once. A
    network that cannot be traced stays as it is. Modules that have their norm inside themselves stay, too.
    """
    pairs = list(_conv_norm_pairs(network))
    for conv_name, norm_name in pairs:
        conv: Any = network.get_submodule(conv_name)
        norm: Any = network.get_submodule(norm_name)
        network.set_submodule(conv_name, folded(conv, norm))
        network.set_submodule(norm_name, nn.Sequential(norm.drop, norm.act) if hasattr(norm, "act") else nn.Identity())
    return len(pairs)


def _conv_norm_pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of each convolution and the norm that alone reads it."""
    try:
        graph = _Tracer().trace(network)
    except Exception:  # whatever a network's own code raises when it meets a symbol in place of a tensor
        return
    calls = [node for node in graph.nodes if node.op == "call_module"]
    times = Counter(id(network.get_submodule(str(node.target))) for node in calls)
    for node in calls:
        source = node.args[0] if len(node.args) == 1 and not node.kwargs else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        conv, norm = network.get_submodule(str(source.target)), network.get_submodule(str(node.target))
        if times[id(conv)] == times[id(norm)] == 1 and _foldable(conv, norm):
            yield str(source.target), str(node.target)


def _foldable(conv: nn.Module, norm: Any) -> bool:
    # Exact types: a subclass may do more, such as standardise its weights. A hook may be what keeps a feature map.
    if type(conv) not in _conv_types() or type(norm) not in _norm_types():
        return False
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in (conv, norm))
    return not hooked and norm.running_mean is not None and norm.weight is not None and norm.bias is not None


def _conv_types() -> tuple[type[nn.Module], ...]:
    from timm.layers import Conv2dSame

    return nn.Conv2d, Conv2dSame


def _norm_types() -> tuple[type[nn.Module], ...]:
    from timm.layers import BatchNormAct2d, FrozenBatchNormAct2d, SyncBatchNormAct
    from torchvision.ops import FrozenBatchNorm2d

    with_activation = (BatchNormAct2d, SyncBatchNormAct, FrozenBatchNormAct2d)
    return nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d, *with_activation
