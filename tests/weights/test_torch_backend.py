from __future__ import annotations

from pathlib import Path

import pytest

from detrofit.errors import DetrofitError
from detrofit.runtime.detector import Detector
from detrofit.weights.torch_backend import TorchBackend
from tests.deployment.models import write_model


@pytest.mark.parametrize("device", ["tpu", "cuda:977", "vulkan"])
def test_a_device_that_is_not_there_is_one_line(device: str, tmp_path: Path) -> None:
    with pytest.raises(DetrofitError, match=f"torch has no device '{device}' here; give cpu") as caught:
        Detector(write_model(tmp_path), device=device)
    assert "\n" not in str(caught.value)


def test_the_network_may_be_the_one_that_was_trained(tmp_path: Path) -> None:
    file = write_model(tmp_path)
    names = [set(TorchBackend(file, "cpu", fused=fused).model.state_dict()) for fused in (True, False)]
    assert any("running_var" in name for name in names[1]) and not any("running_var" in name for name in names[0])
