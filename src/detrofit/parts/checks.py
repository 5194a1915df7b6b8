"""One battery for every part: small functions that raise `CheckFailure`, chosen by the contract of the slot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import torch
from torch import Tensor, nn

from detrofit.errors import DetrofitError
from detrofit.parts.check import Check, CheckFailure, CheckResult, require
from detrofit.parts.loss_checks import (
    broadcasts_over_all_pairs,
    is_box_loss,
    is_finite_for_odd_boxes,
    is_least_for_equal_boxes,
    is_symmetric_as_stated,
    is_zero_for_equal_boxes,
    pulls_scores_to_the_truth,
)
from detrofit.parts.registry import Part
from detrofit.parts.slots import BACKBONE, LOSS_BOX, LOSS_CLASS, MATCHER_BOX, Slot
from detrofit.parts.trials import Place, Trial

Maps: TypeAlias = Tensor | list[Tensor]
Follow: TypeAlias = Callable[[list[tuple[Place, Check]]], Iterable[tuple[Place, Check]]]

_DRAWS = 4
_MEMORY_ORDER_TOLERANCE = 1e-4
_BF16_TOLERANCE = 0.1
_FUSE_TOLERANCE = 1e-4


def run_checks(part: Part, extra: Sequence[Check] = (), follow: Follow = iter) -> list[CheckResult]:
    """Every check, and those of `extra` (of later rooms), on a part in every slot that it fits.

    `follow` hands on what it is given, one after another, and may show how far that is.
    """
    return [run_check(place, check) for place, check in follow(list(checks_of(part, (*CHECKS, *extra))))]


def checks_of(part: Part, checks: Sequence[Check]) -> Iterator[tuple[Place, Check]]:
    """The slots of a part with the checks that concern them."""
    for slot in part.fits:
        for check in checks:
            if check.concerns(slot):
                yield Place(part, slot), check


def run_check(place: Place, check: Check) -> CheckResult:
    """One check; whatever it raises becomes the failure."""
    try:
        check.run(place)
        failure = None
    except CheckFailure as error:
        failure = str(error)
    except Exception as error:  # a part may raise anything
        fault = error.__cause__ or error  # without the place, of which the verdict tells
        failure = str(fault) if isinstance(fault, DetrofitError) else f"{type(fault).__name__}: {fault}".splitlines()[0]
    return CheckResult(place.part.name, place.address, check.name, failure)


def listed(maps: Maps) -> list[Tensor]:
    """One map or several, as a list."""
    return [maps] if isinstance(maps, Tensor) else list(maps)


def relative_distance(actual: Maps, expected: Maps) -> float:
    """The largest relative distance (L2) between maps and those expected."""
    return max(
        ((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-9)).item()
        for a, b in zip(listed(actual), listed(expected))
    )


def in_eval(place: Place) -> tuple[nn.Module, Maps]:
    """A module in eval mode, its norms with random statistics as after training, and an input."""
    trial = place.trials()[0]
    module = trial.build().eval()
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.running_mean, norm.bias):
                tensor.data.normal_(0, 0.2, generator=generator)  # type: ignore[union-attr]
            for tensor in (norm.running_var, norm.weight):
                tensor.data.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
    return module, trial.inputs()


# Modules between maps


def declares_its_maps(place: Place) -> None:
    """A backbone says channels, strides, mean and standard deviation."""
    module = place.build(strides=(8, 16, 32))
    for name, length in (("channels", 3), ("strides", 3), ("mean", 3), ("std", 3)):
        value = getattr(module, name, None)
        require(isinstance(value, tuple) and len(value) == length, f"`{name}` must be {length} numbers, not {value!r}")
    require(module.strides == (8, 16, 32), f"asked for strides 8, 16, 32, it declares {module.strides}")


def keeps_the_contract(place: Place) -> None:
    """The output has the shapes of the slot's contract, for odd and even sizes, strides, widths and batch 1."""
    for trial in place.trials():
        _require_shapes(trial)


def _require_shapes(trial: Trial) -> None:
    module, inputs = trial.build(), trial.inputs()
    for training in (False, True) if trial.trainable else (False,):
        with torch.no_grad():
            outputs = listed(module.train(training)(inputs))
        shapes, expected = [tuple(output.shape) for output in outputs], trial.expected(module)
        require(shapes == expected, f"{trial.what}: gives {shapes}, the slot needs {expected}")
        require(all(output.isfinite().all() for output in outputs), f"{trial.what}: gives numbers that are not finite")


def leaves_its_input_alone(place: Place) -> None:
    """The map that it is given may be read by others too, so it must not be changed in place."""
    module, inputs = in_eval(place)
    before = [tensor.clone() for tensor in listed(inputs)]
    with torch.no_grad():
        module(inputs)
    same = all(torch.equal(tensor, kept) for tensor, kept in zip(listed(inputs), before))
    require(same, "it changes its input in place")


def passes_gradients(place: Place) -> None:
    """Gradients reach the input and every parameter: in one step all have one, and none is zero whatever the values."""
    trial = next(trial for trial in place.trials() if trial.trainable)
    module = trial.build().train()
    silent = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    for draw in range(_DRAWS):
        inputs = _backward(module, trial.inputs(), seed=draw)
        require(all(tensor.grad is not None for tensor in inputs), "no gradient reaches its input")
        if draw == 0:
            require(all(tensor.grad.isfinite().all() for tensor in inputs), "the gradient of its input is not finite")  # type: ignore[union-attr]
        silent -= {name for name, parameter in module.named_parameters() if _has_gradient(name, parameter)}
        if not silent:
            return
        _disturb(module, seed=draw)
    require(not silent, f"no gradient reaches {', '.join(sorted(silent)[:3])}")


def _backward(module: nn.Module, inputs: Maps, seed: int) -> list[Tensor]:
    """The inputs after one backward pass of the outputs with random weights."""
    leaves = [tensor.requires_grad_() for tensor in listed(inputs)]
    module.zero_grad()
    generator = torch.Generator().manual_seed(seed)
    outputs = listed(module(leaves[0] if isinstance(inputs, Tensor) else list(leaves)))
    sum((output * torch.randn(output.shape, generator=generator)).sum() for output in outputs).backward()  # type: ignore[union-attr]
    return leaves


def _has_gradient(name: str, parameter: nn.Parameter) -> bool:
    if not parameter.requires_grad:
        return False
    if parameter.grad is None:
        raise CheckFailure(f"the parameter {name} is not used, which distributed training refuses")
    return parameter.grad.count_nonzero().item() > 0


def _disturb(module: nn.Module, seed: int) -> None:
    """Other values, since a gradient may be zero by accident (a unit that is off for every input)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def repeats_itself_in_eval(place: Place) -> None:
    """In eval mode the same input gives the same output, and one image's output ignores the others of its batch."""
    module, inputs = in_eval(place)
    with torch.no_grad():
        first, second = module(inputs), module(inputs)
        single = module(inputs[:1] if isinstance(inputs, Tensor) else [level[:1] for level in inputs])
    same = all(torch.equal(a, b) for a, b in zip(listed(first), listed(second)))
    require(same, "in eval mode the same input gives different outputs")
    distance = relative_distance(single, [output[:1] for output in listed(first)])
    require(distance < _MEMORY_ORDER_TOLERANCE, f"in eval mode images of a batch influence each other ({distance:.1e})")


def agrees_in_channels_last(place: Place) -> None:
    """The order of channels in memory changes nothing."""
    module, inputs = in_eval(place)
    with torch.no_grad():
        expected = module(inputs)
        module.to(memory_format=torch.channels_last)
        turned = [tensor.contiguous(memory_format=torch.channels_last) for tensor in listed(inputs)]
        distance = relative_distance(module(turned[0] if isinstance(inputs, Tensor) else turned), expected)
    require(
        distance < _MEMORY_ORDER_TOLERANCE, f"channels-last gives another result (relative distance {distance:.1e})"
    )


def stays_near_in_bf16(place: Place) -> None:
    """Under bf16 autocast the output is finite and near that of float32."""
    module, inputs = in_eval(place)
    with torch.no_grad():
        expected = module(inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            actual = module(inputs)
    require(all(output.isfinite().all() for output in listed(actual)), "bf16 gives numbers that are not finite")
    distance = relative_distance(actual, expected)
    require(distance < _BF16_TOLERANCE, f"bf16 is far from float32 (relative distance {distance:.2f})")


def merging(fuse: Callable[[nn.Module], nn.Module]) -> Check:
    """The check that the deploy form which `fuse` makes gives the same outputs as the part."""

    def merges_without_change(place: Place) -> None:
        module, inputs = in_eval(place)
        with torch.no_grad():
            distance = relative_distance(fuse(module)(inputs), module(inputs))
        require(distance < _FUSE_TOLERANCE, f"the fused form gives another result (relative distance {distance:.1e})")

    return Check("merges without change", is_module, merges_without_change)


# Options


def enforces_its_options(place: Place) -> None:
    """Values out of range are refused with slot, part and option named, and so are options that do not exist."""
    for name, info in place.part.options.model_fields.items():
        bad = list(_out_of_range(info.annotation, info.metadata))
        require(
            bool(bad), f"option '{name}' takes any number; give its range with Annotated[..., Field(ge=..., le=...)]"
        )
        for value in bad:
            if value is not _ANY_TEXT:
                _require_refused(place, name, value)
    _require_refused(place, "no_such_option", 1)


_ANY_TEXT = object()


def _out_of_range(annotation: Any, metadata: Sequence[Any] = ()) -> Iterator[Any]:
    """Values that a type with these constraints does not take; `_ANY_TEXT` for text, which has no range."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _out_of_range(arguments[0], _flat(arguments[1:]))
    elif origin is Literal:
        yield "no such choice"
    elif origin is tuple:
        yield "no such choice"
        items = [argument for argument in arguments if argument is not Ellipsis]
        yield from ((value,) * len(items) for value in _out_of_range(items[0]) if value is not _ANY_TEXT)
    elif origin is Union or isinstance(annotation, UnionType):
        for argument in arguments:
            if argument is not type(None):
                yield from _out_of_range(argument, metadata)
    elif annotation is bool:
        yield "no such choice"
    elif annotation is str:
        yield _ANY_TEXT
    else:
        yield from _beyond_bounds(_flat(metadata))


def _flat(metadata: Sequence[Any]) -> list[Any]:
    """Constraints, also those inside pydantic's `Field(...)`."""
    return [constraint for item in metadata for constraint in getattr(item, "metadata", [item])]


def _beyond_bounds(constraints: Sequence[Any]) -> Iterator[Any]:
    for constraint in constraints:
        for kind, beyond in (("ge", -1), ("gt", 0), ("lt", 0), ("le", 1)):
            bound = getattr(constraint, kind, None)
            if bound is not None:
                yield bound + beyond


def _require_refused(place: Place, option: str, value: Any) -> None:
    filler = place.filler({**place.options, option: value})
    try:
        filler.choice(place.slot, place.part.name)
    except DetrofitError as error:
        for word in (place.address, place.part.name, option):
            require(word in str(error), f"the error for {option}={value!r} does not name '{word}': {error}")
        return
    raise CheckFailure(f"option {option}={value!r} is accepted")


def works_with_every_choice(place: Place) -> None:
    """Each of an option's listed values, both truth values and, where it may be left out, none keep the contract."""
    for name, info in place.part.options.model_fields.items():
        for value in _choices(info.annotation):
            changed = Place(place.part, place.slot, {**place.options, name: value})
            try:
                _require_contract(changed)
            except CheckFailure as failure:
                raise CheckFailure(f"with {name}={value!r}: {failure}") from None


def _require_contract(place: Place) -> None:
    if is_box_loss(place.slot):
        broadcasts_over_all_pairs(place)
        is_finite_for_odd_boxes(place)
    elif place.slot is LOSS_CLASS:
        pulls_scores_to_the_truth(place)
    else:
        trials = place.trials()
        for trial in (trials[0], trials[-1]):
            _require_shapes(trial)


def _choices(annotation: Any) -> Iterator[Any]:
    """The values that a type lists one by one."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield from arguments
    elif annotation is bool:
        yield from (True, False)
    elif annotation is type(None):
        yield None
    elif origin is Union or isinstance(annotation, UnionType):
        for argument in arguments:
            yield from _choices(argument)


def tells_its_source(place: Place) -> None:
    """Its file says what it is."""
    require(bool(place.part.summary), "its class has no docstring")


def is_module(slot: Slot) -> bool:
    """Whether parts of this slot go between maps; losses do not."""
    return slot not in (LOSS_BOX, LOSS_CLASS, MATCHER_BOX)


CHECKS: tuple[Check, ...] = (
    Check("tells its source", lambda slot: True, tells_its_source),
    Check("enforces its options", lambda slot: True, enforces_its_options),
    Check("works with every choice", lambda slot: slot is not BACKBONE, works_with_every_choice),
    Check("declares its maps", lambda slot: slot is BACKBONE, declares_its_maps),
    Check("keeps the contract", is_module, keeps_the_contract),
    Check("leaves its input alone", is_module, leaves_its_input_alone),
    Check("passes gradients", is_module, passes_gradients),
    Check("repeats itself in eval", is_module, repeats_itself_in_eval),
    Check("agrees in channels-last", is_module, agrees_in_channels_last),
    Check("stays near in bf16", is_module, stays_near_in_bf16),
    Check("broadcasts over all pairs", is_box_loss, broadcasts_over_all_pairs),
    Check("is least for equal boxes", is_box_loss, is_least_for_equal_boxes),
    Check("is zero for equal boxes", is_box_loss, is_zero_for_equal_boxes),
    Check("is symmetric as stated", is_box_loss, is_symmetric_as_stated),
    Check("is finite for odd boxes", is_box_loss, is_finite_for_odd_boxes),
    Check("pulls scores to the truth", lambda slot: slot is LOSS_CLASS, pulls_scores_to_the_truth),
)
