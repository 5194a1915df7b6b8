"""The battery itself: it finds what is wrong with parts that are wrong on purpose."""

from __future__ import annotations

from typing import Annotated

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from detrofit.deployment.part_check import EXPORTS
from detrofit.errors import DetrofitError
from detrofit.model.fuse import fuse
from detrofit.parts import checks, registry
from detrofit.parts.checks import checks_of, merging, run_check, run_checks
from detrofit.parts.layers import ConvNorm
from detrofit.parts.registry import get_part, part
from detrofit.parts.slots import LOSS_BOX, LOSS_CLASS, STAGE_ATTENTION, STAGE_BLOCK
from detrofit.training.part_check import IN_MODEL

Share = Annotated[float, Field(ge=0, le=1)]


@pytest.fixture(autouse=True)
def registered_here_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of these tests leave the registry with their test."""
    get_part("none")  # the real parts are there before the copy
    monkeypatch.setattr(registry, "_PARTS", dict(registry._PARTS))


def failures(build: type[nn.Module], slot: registry.Slot = STAGE_ATTENTION, **contract: bool) -> dict[str, str]:
    """The checks that a part fails, with their texts."""
    part("broken", fits=[slot], **contract)(build)  # type: ignore[arg-type]
    results = run_checks(get_part("broken"), [merging(fuse)])
    return {result.check: result.failure for result in results if result.failure is not None}


class Sound(nn.Module):
    """Nothing is wrong here."""

    def __init__(self, in_channels: int, *, share: Share = 0.5) -> None:
        super().__init__()
        self.share = share
        self.conv = ConvNorm(in_channels, in_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.share * self.conv(x)


class Idle(Sound):
    """Has one parameter more."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.idle = nn.Parameter(torch.ones(1))


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert failures(Sound) == {}


def test_a_shape_that_is_not_the_slots() -> None:
    class Halving(Sound):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[..., ::2, ::2]

    assert "the slot needs" in failures(Halving)["keeps the contract"]


def test_a_stride_that_is_declared_and_not_taken() -> None:
    class Unstrided(nn.Module):
        """Takes no stride."""

        def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
            super().__init__()
            self.conv = ConvNorm(in_channels, out_channels, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    found = failures(Unstrided, STAGE_BLOCK, can_stride=True, can_widen=True)
    assert "stride 2" in found["keeps the contract"]


def test_an_input_that_is_changed() -> None:
    class InPlace(Sound):
        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.mul_(0.9)) if not torch.is_grad_enabled() else super().forward(x)

    assert "in place" in failures(InPlace)["leaves its input alone"]


def test_a_parameter_that_is_not_used() -> None:
    assert "idle is not used" in failures(Idle)["passes gradients"]


def test_a_parameter_that_no_gradient_reaches() -> None:
    class Dead(Idle):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0 * self.idle

    assert "no gradient reaches idle" in failures(Dead)["passes gradients"]


def test_chance_in_eval_mode() -> None:
    class Chancy(Sound):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(super().forward(x), 0.1, training=True)

    assert "different outputs" in failures(Chancy)["repeats itself in eval"]


def test_images_that_influence_each_other() -> None:
    class Mixing(Sound):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - x.mean(dim=0, keepdim=True)

    assert "influence each other" in failures(Mixing)["repeats itself in eval"]


def test_a_result_that_hangs_on_the_order_in_memory() -> None:
    class Ordered(Sound):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y if y.is_contiguous() else 2 * y

    assert "channels-last" in failures(Ordered)["agrees in channels-last"]


def test_numbers_too_large_for_half_the_bits() -> None:
    class Steep(Sound):
        def forward(self, x: Tensor) -> Tensor:
            return (100 * super().forward(x)).sin()

    assert "bf16 is far" in failures(Steep)["stays near in bf16"]


def test_a_fused_form_that_differs() -> None:
    class Misfused(Sound):
        def fuse(self) -> None:
            self.conv.norm = nn.Identity()

    assert "fused form" in failures(Misfused)["merges without change"]


def test_an_option_without_a_range() -> None:
    class Boundless(Sound):
        def __init__(self, in_channels: int, *, share: float = 0.5) -> None:
            super().__init__(in_channels, share=share)

    assert "option 'share' takes any number" in failures(Boundless)["enforces its options"]


def test_a_list_whose_items_have_no_range() -> None:
    class Listed(Sound):
        def __init__(self, in_channels: int, *, shares: tuple[Share, Share] = (0.5, 0.5)) -> None:
            super().__init__(in_channels)

    assert failures(Listed) == {}
    assert list(checks._out_of_range(tuple[Share, Share])) == ["no such choice", (-1, -1), (2, 2)]


def test_a_missing_docstring() -> None:
    class Silent(nn.Identity):
        def __init__(self) -> None:
            super().__init__()

    Silent.__doc__ = ""
    assert "docstring" in failures(Silent)["tells its source"]


def test_a_part_that_raises() -> None:
    class Raising(Sound):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no")

    assert failures(Raising)["keeps the contract"] == "ValueError: no"


def test_a_box_loss_with_another_minimum_and_a_pole() -> None:
    class Pointed(nn.Module):
        """Prefers wide boxes, and has no finite gradient where centres meet."""

        def __init__(self) -> None:
            super().__init__()

        def forward(self, predicted: Tensor, target: Tensor, image_size: tuple[float, float]) -> Tensor:
            distance = (predicted[..., :2] - target[..., :2]).square().sum(-1).sqrt()
            return distance - predicted[..., 2]

    found = failures(Pointed, LOSS_BOX)
    assert "costs less than the target" in found["is least for equal boxes"]
    assert "gradient is not finite for predicted boxes" in found["is finite for odd boxes"]


def test_a_box_loss_that_sums_its_pairs() -> None:
    class Summed(nn.Module):
        """One number for all pairs."""

        def __init__(self) -> None:
            super().__init__()

        def forward(self, predicted: Tensor, target: Tensor, image_size: tuple[float, float]) -> Tensor:
            return (predicted - target).abs().sum()

    assert "not (5, 5)" in failures(Summed, LOSS_BOX)["broadcasts over all pairs"]


def test_a_class_loss_that_points_backwards() -> None:
    class Backwards(nn.Module):
        """Lowers the score of the right class."""

        def __init__(self) -> None:
            super().__init__()

        def forward(self, logits: Tensor, one_hot: Tensor, iou: Tensor) -> Tensor:
            return nn.functional.binary_cross_entropy_with_logits(logits, 1 - one_hot, reduction="none")

    assert "does not raise" in failures(Backwards, LOSS_CLASS)["pulls scores to the truth"]


def test_a_box_loss_that_is_not_as_it_states() -> None:
    class Shifted(nn.Module):
        """Costs one even where nothing is wrong."""

        symmetric = False

        def __init__(self) -> None:
            super().__init__()

        def forward(self, predicted: Tensor, target: Tensor, image_size: tuple[float, float]) -> Tensor:
            return 1 + (predicted - target).abs().sum(-1)

    found = failures(Shifted, LOSS_BOX)
    assert "equal boxes cost 1, not 0" in found["is zero for equal boxes"]
    assert "states symmetric = False" in found["is symmetric as stated"]


def test_an_option_that_may_be_infinite_or_no_number() -> None:
    part("broken", fits=[STAGE_ATTENTION])(Sound)
    for value in (float("inf"), float("nan")):
        with pytest.raises(DetrofitError, match="option 'share'"):
            registry.validated(get_part("broken").options, {"share": value}, "slot x, part 'broken'")


def test_an_option_without_a_default_or_an_example() -> None:
    class Demanding(Sound):
        def __init__(self, in_channels: int, *, share: Share) -> None:
            super().__init__(in_channels, share=share)

    assert "give one with Field(examples=[...])" in failures(Demanding)["keeps the contract"]


def test_a_part_that_does_not_export() -> None:
    class Unexported(Sound):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (2.0 if torch.onnx.is_in_onnx_export() else 1.0)

    part("broken", fits=[STAGE_ATTENTION])(Unexported)
    (result,) = [each for each in run_checks(get_part("broken"), [EXPORTS]) if each.check == "exports without change"]
    assert result.failure is not None and "ONNX Runtime gives another result" in result.failure


def failures_in_model(build: type[nn.Module], slot: registry.Slot) -> dict[str, str]:
    """What the checks in a whole model say about a part."""
    part("broken", fits=[slot])(build)
    results = [run_check(place, check) for place, check in checks_of(get_part("broken"), IN_MODEL)]
    return {result.check: result.failure for result in results if result.failure is not None}


def test_what_the_file_of_a_model_does_not_hold() -> None:
    class Remembering(Sound):
        """Takes off a running mean that is neither parameter nor buffer."""

        def __init__(self, in_channels: int) -> None:
            super().__init__(in_channels)
            self.mean = torch.zeros(in_channels)

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(dim=(0, 2, 3))
            return super().forward(x - self.mean[:, None, None])

    (found,) = failures_in_model(Remembering, STAGE_ATTENTION).items()
    assert found[0] == "returns from its file" and "parameters or buffers" in found[1]


def test_a_loss_that_training_does_not_lower() -> None:
    class Growing(nn.Module):
        """Costs more with every step, whatever the boxes are."""

        def __init__(self) -> None:
            super().__init__()
            self.steps = 0.0

        def forward(self, predicted: Tensor, target: Tensor, image_size: tuple[float, float]) -> Tensor:
            self.steps += 1
            return (predicted - target).abs().sum(-1) + self.steps

    (found,) = failures_in_model(Growing, LOSS_BOX).items()
    assert found[0] == "learns in rtdetr-n" and "do not lower the loss" in found[1]


def test_a_parameter_that_a_whole_model_does_not_use() -> None:
    assert "idle" in failures_in_model(Idle, STAGE_ATTENTION)["learns in rtdetr-n"]
