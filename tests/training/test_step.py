from __future__ import annotations

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer

from detrofit import DetrofitError, build
from detrofit.data.loader import collate
from detrofit.data.open import open_dataset
from detrofit.training.devices import Devices
from detrofit.training.finite import FiniteGuard
from detrofit.training.optimizer import freeze_norms
from detrofit.training.prepare import set_training_mode
from detrofit.training.step import Stepper

SMALL = {"num_queries": 20, "decoder_layers": 2, "num_denoising": 10}


def make_stepper(folder, clip: float = 1e9) -> Stepper:
    """A stepper with plain SGD, so that a step shows the gradient, and norms that keep their statistics."""
    devices = Devices("cpu", "fp32")
    model = devices.place(build("rtdetr-n", num_classes=5, settings=SMALL))
    set_training_mode(model, freeze_norms(model, ["backbone", "encoder", "decoder"]))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    return Stepper(model, model, optimizer, devices, FiniteGuard(model, folder), 0, clip, [])


@pytest.fixture
def batch(tiny_data):
    """Four pictures of 64 pixels with their targets."""
    from detrofit.data.loader import EvaluationLoader

    return next(iter(EvaluationLoader(open_dataset(tiny_data).split("train"), (64, 64), 4, workers=0)))


def halves(batch):
    images, targets = batch
    return [(images[:2], targets[:2]), (images[2:], targets[2:])]


def test_accumulated_batches_make_the_step_of_one_batch(tmp_path, batch):
    whole, parts = make_stepper(tmp_path), make_stepper(tmp_path)
    losses = whole.update([batch], 0, several_sizes=False)
    in_parts = parts.update(halves(batch), 0, several_sizes=False)
    assert in_parts == pytest.approx(losses, rel=1e-4)
    for (name, one), other in zip(whole.model.named_parameters(), parts.model.parameters()):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4, msg=name)


def test_the_same_step_gives_the_same_weights_and_another_step_other_noise(tmp_path, batch):
    first, again, other = (make_stepper(tmp_path) for _ in range(3))
    assert first.update([batch], 3, False) == again.update([batch], 3, False)
    assert first.update([batch], 4, False) != other.update([batch], 5, False)


def test_a_step_goes_as_far_as_its_clip_allows(tmp_path, batch):
    stepper = make_stepper(tmp_path, clip=0.1)
    before = [parameter.detach().clone() for parameter in stepper.model.parameters()]
    stepper.update([batch], 0, several_sizes=False)
    moved = [(now.detach() - then).norm() for now, then in zip(stepper.model.parameters(), before)]
    assert float(torch.stack(moved).norm()) == pytest.approx(0.1 * 1e-3, rel=1e-2), "the gradient's norm is above 0.1"


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda stepper, images: images.__setitem__((0, 0, 0, 0), float("nan")), "the pictures"),
        (lambda stepper, images: stepper.model.encoder.fusion.lateral["stride32"].conv.weight.data.fill_(float("inf")),
         "the weight encoder.fusion.lateral.stride32.conv.weight"),
        (lambda stepper, images: stepper.model.backbone.stem.conv1.conv.weight.data.fill_(1e38),
         "the output of backbone.stem.conv"),
    ],
)  # fmt: skip
def test_a_bad_step_is_named_saved_and_skipped(tmp_path, batch, monkeypatch, spoil, fault):
    stepper = make_stepper(tmp_path)
    images = batch[0].float() / 255
    spoil(stepper, images)
    monkeypatch.setattr(stepper.devices, "images", lambda pictures: images.clone())
    before = {name: tensor.clone() for name, tensor in stepper.model.state_dict().items()}
    assert stepper.update([batch], 7, several_sizes=False) is None
    for name, tensor in stepper.model.state_dict().items():
        assert torch.equal(tensor, before[name]) or not tensor.isfinite().all(), name
    (file,) = tmp_path.glob("non_finite_step7.safetensors")
    import safetensors

    with safetensors.safe_open(file, "pt") as saved:
        assert saved.metadata()["fault"].startswith(fault)
        assert torch.equal(saved.get_tensor("boxes.2"), batch[1][2]["boxes"])
    assert stepper.guard.in_a_row == 1


def test_norm_statistics_survive_a_bad_step(tmp_path, batch, monkeypatch):
    stepper = make_stepper(tmp_path)
    stepper.model.train()
    bad = torch.full_like(batch[0], float("nan"), dtype=torch.float32)
    monkeypatch.setattr(stepper.devices, "images", lambda pictures: bad.clone())
    assert stepper.update([batch], 0, several_sizes=False) is None
    assert all(buffer.isfinite().all() for buffer in stepper.model.buffers())


def test_three_bad_steps_in_a_row_stop_with_a_diagnosis(tmp_path, batch):
    stepper = make_stepper(tmp_path)
    stepper.model.decoder.layer0.linear1.weight.data.fill_(float("nan"))
    for step in range(2):
        assert stepper.update([batch], step, several_sizes=False) is None
    with pytest.raises(DetrofitError, match=r"3 steps in a row .*decoder\.layer0\.linear1\.weight.*Lower --lr"):
        stepper.update([batch], 2, several_sizes=False)


def test_a_gradient_that_no_scale_of_fp16_makes_finite_is_a_fault(tmp_path, monkeypatch):
    stepper = make_stepper(tmp_path)
    optimizer, accelerator, scaler = stepper.optimizer, stepper.devices.accelerator, torch.amp.GradScaler("cpu", 4.0)
    scaler.scale(torch.ones(()))

    def clip(parameters, norm):
        scaler.unscale_(optimizer)
        return torch.nn.utils.clip_grad_norm_(parameters, norm)

    monkeypatch.setattr(accelerator, "scaler", scaler)
    monkeypatch.setattr(accelerator, "clip_grad_norm_", clip)
    stepper.optimizer = AcceleratedOptimizer(optimizer, scaler=scaler)
    before = {name: tensor.clone() for name, tensor in stepper.model.state_dict().items()}
    results = []
    for _ in range(4):
        for parameter in stepper.model.parameters():
            parameter.grad = torch.full_like(parameter, float("inf"))
        results.append((scaler.get_scale(), stepper._apply()))
    assert results == [(4.0, True), (2.0, True), (1.0, False), (0.5, False)]
    assert all(torch.equal(tensor, before[name]) for name, tensor in stepper.model.state_dict().items())


def test_a_batch_without_any_box_is_a_step_like_another(tmp_path, batch):
    images, targets = batch
    empty = [
        {**target, "boxes": target["boxes"][:0], "labels": target["labels"][:0]} for target in targets
    ]  # fmt: skip
    losses = make_stepper(tmp_path).update([(images, empty)], 0, several_sizes=False)
    assert losses is not None and losses["loss_box"] == 0 and losses["loss_class"] > 0


def test_collate_stacks_what_the_loop_expects(batch):
    images, targets = collate([(batch[0][i], batch[1][i]) for i in range(4)])
    assert images.dtype == torch.uint8 and torch.equal(images, batch[0]) and targets == list(batch[1])
