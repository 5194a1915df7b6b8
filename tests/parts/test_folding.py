"""Folding norms into convolutions of foreign networks: only where nothing else can notice."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.folding import fold_norms

layers = pytest.importorskip("timm.layers")


class Network(nn.Module):
    """A convolution and a norm of 4 channels, used as `use` says."""

    def __init__(self, use: Callable[[Network, Tensor], Tensor], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = norm or nn.BatchNorm2d(4)
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, x)


def with_statistics(network: nn.Module) -> nn.Module:
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_mean", "running_var", "norm.weight", "norm.bias")):
            tensor.uniform_(0.5, 1.5)
    return network.eval()


def folded_alike(network: nn.Module) -> int:
    """How many norms are folded, once it is sure that the output stays the same."""
    with_statistics(network)
    folded = copy.deepcopy(network)
    count = fold_norms(folded)
    x = torch.randn(2, 4, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), network(x), atol=1e-5, rtol=1e-4)
    return count


@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.BatchNorm2d(4, eps=1e-3),
        lambda: nn.SyncBatchNorm(4),
        lambda: layers.BatchNormAct2d(4),
        lambda: layers.BatchNormAct2d(4, act_layer=nn.SiLU, eps=0.1),
        lambda: layers.BatchNormAct2d(4, apply_act=False),
        lambda: layers.FrozenBatchNormAct2d(4),
    ],
)
def test_a_convolution_and_its_norm_become_one(norm: Callable[[], nn.Module]) -> None:
    assert folded_alike(Network(lambda net, x: net.norm(net.conv(x)), norm())) == 1


def test_padding_of_the_same_kind_as_in_tensorflow_stays() -> None:
    network = Network(lambda net, x: net.norm(net.conv(x)))
    network.conv = layers.Conv2dSame(4, 4, 3, stride=2, bias=False)
    assert folded_alike(network) == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda net, x: net.norm(y := net.conv(x)) + y,
        lambda net, x: net.norm(net.conv(net.conv(x))),
        lambda net, x: net.norm(net.conv(net.norm(x))),
        lambda net, x: net.conv(net.norm(x)),
        lambda net, x: net.norm(functional.relu(net.conv(x))),
        lambda net, x: net.norm(net.conv(x) + 1),
    ],
    ids=["output read twice", "convolution run twice", "norm run twice", "norm first", "relu between", "sum between"],
)
def test_what_something_else_sees_stays(use: Callable[[Network, Tensor], Tensor]) -> None:
    assert folded_alike(Network(use)) == 0


def test_a_convolution_that_does_more_stays() -> None:
    network = Network(lambda net, x: net.norm(net.conv(x)))
    network.conv = layers.StdConv2d(4, 4, 3, padding=1)
    assert folded_alike(network) == 0


def test_a_norm_without_statistics_or_factors_stays() -> None:
    assert folded_alike(Network(lambda net, x: net.norm(net.conv(x)), nn.BatchNorm2d(4, affine=False))) == 0
    assert (
        folded_alike(Network(lambda net, x: net.norm(net.conv(x)), nn.BatchNorm2d(4, track_running_stats=False))) == 0
    )


def test_a_module_that_is_listened_to_stays() -> None:
    network = Network(lambda net, x: net.norm(net.conv(x)))
    network.conv.register_forward_hook(lambda module, inputs, output: None)
    assert fold_norms(network.eval()) == 0


def test_a_network_that_cannot_be_traced_stays() -> None:
    assert folded_alike(Network(lambda net, x: net.norm(net.conv(x)) if x.sum() > -1e9 else x)) == 0


def test_only_what_is_proven_among_many() -> None:
    shared = Network(lambda net, x: net.norm(net.conv(x)))
    own = Network(lambda net, x: net.norm(net.conv(x)))
    assert folded_alike(nn.Sequential(shared, own, shared)) == 1
