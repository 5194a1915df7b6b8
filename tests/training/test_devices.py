from __future__ import annotations

import os

import pytest
import torch

from detrofit import DetrofitError, build
from detrofit.training.devices import Devices, with_synchronised_norms
from detrofit.training.finite import FiniteGuard
from detrofit.training.step import Stepper


def test_trainings_of_one_process_each_have_their_own_precision():
    assert Devices("cpu", "bf16").precision == "bf16"
    again = Devices("cpu", "fp32")
    assert again.precision == "fp32" and again.accelerator.mixed_precision == "no"
    assert "ACCELERATE_TORCH_DEVICE" not in os.environ


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("tpu9", "there is no device 'tpu9'"),
        ("cuda:70", "--device cpu|the last one here is cuda:"),
        ("mps", "this machine has none; use --device cpu"),
        ("meta", "this machine has none; use --device cpu"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(device, message):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has mps")
    with pytest.raises(DetrofitError, match=message):
        Devices(device)


def test_synchronised_norms_keep_the_activation_that_timms_hold():
    model = build(
        "rtdetr-n", {"backbone": "timm:test_efficientnet"}, num_classes=2, settings={"num_queries": 20}
    ).eval()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    weights, expected = dict(model.named_parameters()), model(images).prediction
    placed = with_synchronised_norms(model)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in placed.modules())
    assert all(parameter is weights[name] for name, parameter in placed.named_parameters())
    torch.testing.assert_close(placed(images).prediction.logits, expected.logits)


def test_without_a_scaler_nothing_is_trained_in_fp16():
    devices = Devices("cpu", "bf16")
    with devices.autocast_without_scaler():
        assert torch.is_autocast_enabled("cpu")
    devices.precision = "fp16"  # which needs CUDA
    with devices.autocast_without_scaler():
        assert not torch.is_autocast_enabled("cpu")


def test_one_process_agrees_with_itself():
    devices = Devices("cpu", "fp32")
    assert devices.sum_and_max(2.0, 3.0) == [(2.0, 2.0), (3.0, 3.0)]
    assert devices.from_main(lambda: "chosen") == "chosen"
    assert devices.is_main and (devices.rank, devices.world_size) == (0, 1)


def test_images_become_floats_in_0_to_1():
    devices = Devices("cpu", "fp32")
    images = devices.images(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8))
    assert images.dtype == torch.float32 and images.max() == 1.0
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_an_update_in_bf16_keeps_weights_and_losses_in_fp32(tmp_path):
    devices = Devices("cpu", "bf16")
    model = devices.place(build("rtdetr-n", num_classes=2, settings={"num_queries": 20, "decoder_layers": 1}))
    model.train()
    network, optimizer = devices.accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=1e-3))
    kinds = []
    criterion = model.criterion.forward
    model.criterion.forward = lambda *given, **more: _noted(kinds, criterion(*given, **more))
    stepper = Stepper(model, network, optimizer, devices, FiniteGuard(model, tmp_path), 0, 0.1, [])
    target = {"labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.3, 0.4]]), "image_index": 0}
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    losses = stepper.update([(images, [target])], 0, several_sizes=False)
    assert losses is not None and losses["loss"] > 0
    assert kinds and set(kinds) == {torch.float32}
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def _noted(kinds: list[torch.dtype], losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    kinds.extend(loss.dtype for loss in losses.values())
    return losses
