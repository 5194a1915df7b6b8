"""RepNCSPELAN4 against YOLOv9's, merged and not; the ExtraDW forms by their parameter counts."""

from __future__ import annotations

import pytest

from detrofit.model.fuse import fuse
from detrofit.parts.fusion.repncspelan4 import GELAN, RepNCSPELAN4, RepNCSPELAN4ExtraDW

from .fixtures import Case, cases
from .naming import load, run, set_norm_eps, skip_other_arguments


def _names(blocks: int) -> dict[str, str]:
    names = {"cv1": "split", "cv4": "aggregate"}
    for number, original in (("1", "cv2"), ("2", "cv3")):
        names[f"{original}.1"] = f"end{number}"
        for conv in "123":
            names[f"{original}.0.cv{conv}"] = f"csp{number}.conv{conv}"
        for block in range(blocks):
            bottleneck, ours = f"{original}.0.m.{block}", f"csp{number}.blocks.block{block}"
            names |= {f"{bottleneck}.cv1.conv1": f"{ours}.rep.conv3", f"{bottleneck}.cv1.conv2": f"{ours}.rep.conv1"}
            names[f"{bottleneck}.cv2"] = f"{ours}.conv"
    return names


@pytest.mark.parametrize("case", cases("repncspelan4"))
def test_outputs(case: Case) -> None:
    skip_other_arguments(case.args, ("c1", "c2", "c3", "c4", "c5"))
    in_channels, out_channels, middle, branch, blocks = (case.args.get(f"c{i}", 1) for i in range(1, 6))
    module = GELAN(in_channels, out_channels, middle, branch, blocks)
    set_norm_eps(module, case.setup.get("_bn_eps", 1e-5))
    load(module, case.state, _names(blocks))
    case.assert_close(run(module, case.inputs["x"]), "y")
    case.assert_close(run(fuse(module), case.inputs["x"]), "y_fused")


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "middle", "branch", "blocks", "trained", "deployed"),
    [
        (512, 256, 256, 128, 1, 781_568, 772_992),
        (512, 256, 192, 96, 1, 489_536, 484_640),
        (512, 256, 128, 64, 1, 262_016, 259_776),
        (512, 256, 256, 128, 3, 1_094_400, None),
    ],
)
def test_parameter_counts(
    in_channels: int, out_channels: int, middle: int, branch: int, blocks: int, trained: int, deployed: int | None
) -> None:
    module = RepNCSPELAN4(
        in_channels,
        out_channels,
        expansion=middle / out_channels,
        branch_expansion=branch / out_channels,
        blocks=blocks,
    )
    assert _parameters(module) == trained
    if deployed is not None:
        for child in module.modules():
            if type(child).__name__ == "RepVggBlock":
                child.fuse()
        assert _parameters(module) == deployed


@pytest.mark.parametrize(
    ("site", "counts"),
    [
        ("i", (644_864, 662_912, 699_008)),
        ("ii", (718_848, 736_896, 772_992)),
        ("iii", (558_336, 627_200, 764_928)),
        ("iv", (421_632, 508_544, 682_368)),
    ],
)
def test_parameter_counts_with_extradw(site: str, counts: tuple[int, ...]) -> None:
    modules = [RepNCSPELAN4ExtraDW(512, 256, site=site, expand=expand) for expand in (1.0, 2.0, 4.0)]  # type: ignore[arg-type]
    assert tuple(_parameters(module) for module in modules) == counts


def _parameters(module: object) -> int:
    return sum(parameter.numel() for parameter in module.parameters())  # type: ignore[attr-defined]
