"""RT-DETR and RT-DETRv2 of Hugging Face transformers against ours: outputs, losses and gradients, weights both ways.

Where transformers departs from the official implementation, which ours follows:

- Position embedding of the encoder: transformers numbers the cells of a rectangle properly, the official one scrambles
  them (its embedding runs with the width slowest, its tokens with the height slowest). On squares both are the same,
  so rectangles are compared with the official embedding put into transformers.
- Boxes of decoder layers after the first: the official ones carry a gradient to the layer before, those of
  transformers do not. So the gradient of all losses is compared with one decoder layer, and with several that of the
  losses without such boxes.
- Discrete sampling: the official one ends both axes at the map's height, transformers each at its own. On squares, and
  on maps higher than wide, both are the same.
- A batch without any box: the official v2 makes two padding queries for denoising, transformers none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detrofit import build
from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.parts.attention.aifi import position_embedding
from detrofit.weights.huggingface import from_huggingface, to_huggingface
from detrofit.weights.transfer import transfer

transformers = pytest.importorskip("transformers")

SQUARE, WIDE, HIGH = (96, 96), (64, 128), (128, 64)
CLASSES, QUERIES, WIDTH, FFN = 5, 12, 32, 48
VERSIONS = [1, 2]
BACKBONES: dict[str, dict[str, Any]] = {
    "basic": {"depths": [2, 2, 2, 2], "embedding_size": 16, "hidden_sizes": [16, 24, 32, 40]},
    "bottleneck": {"depths": [3, 4, 6, 3], "embedding_size": 8, "hidden_sizes": [32, 64, 96, 128]},
}
TERMS = {"vfl": "class", "bbox": "l1", "giou": "box"}
BOXES = torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.6, 0.5, 0.5, 0.4], [0.8, 0.2, 0.1, 0.1], [0.5, 0.5, 0.9, 0.8]])
TARGETS = [{"labels": torch.tensor([0, 4, 2]), "boxes": BOXES[:3]}, {"labels": torch.tensor([1]), "boxes": BOXES[3:]}]


def their_model(version: int, layer_type: str = "basic", **settings: Any) -> nn.Module:
    """A narrow model of transformers whose weights are of the usual size in every place."""
    backbone = transformers.RTDetrResNetConfig(
        layer_type=layer_type, out_features=["stage2", "stage3", "stage4"], **BACKBONES[layer_type]
    )
    values: dict[str, Any] = {
        "backbone_config": backbone,
        "freeze_backbone_batch_norms": True,
        "encoder_in_channels": backbone.hidden_sizes[1:],
        "encoder_hidden_dim": WIDTH,
        "encoder_ffn_dim": FFN,
        "decoder_in_channels": [WIDTH] * 3,
        "d_model": WIDTH,
        "decoder_ffn_dim": FFN,
        "decoder_layers": 2,
        "hidden_expansion": 0.5,
        "num_queries": QUERIES,
        "num_labels": CLASSES,
        "num_denoising": 0,
    } | settings
    if version == 1:
        model = transformers.RTDetrForObjectDetection(transformers.RTDetrConfig(**values))
    else:
        model = transformers.RTDetrV2ForObjectDetection(transformers.RTDetrV2Config(**values))
    generator = torch.Generator().manual_seed(version)
    for name, tensor in model.state_dict().items():
        randomise(name, tensor, generator)
    return model.eval()


def randomise(name: str, tensor: Tensor, generator: torch.Generator) -> None:
    if name.endswith("running_var") or (name.endswith(".weight") and tensor.ndim == 1):
        tensor.uniform_(0.5, 1.5, generator=generator)
    elif name.endswith(".weight"):
        tensor.normal_(0, (1.5 / tensor[0].numel()) ** 0.5, generator=generator)
    elif tensor.is_floating_point() and not name.endswith("n_points_scale"):
        tensor.normal_(0, 0.2, generator=generator)


def our_model(theirs: nn.Module, layer_type: str = "basic", **settings: Any) -> RTDETR:
    """Our model of the same numbers with the weights of `theirs`."""
    config = theirs.config
    bottleneck = layer_type == "bottleneck"
    widths = [size // 4 if bottleneck else size for size in BACKBONES[layer_type]["hidden_sizes"]]
    model = build(
        "rtdetr-r18",
        {
            "backbone": {"part": "resnet-vd", "depth": 50 if bottleneck else 18, "widths": widths},
            "encoder.attention": {"part": "aifi", "ffn_dim": FFN},
        },
        num_classes=CLASSES,
        settings={
            "hidden_dim": WIDTH,
            "decoder_dim": WIDTH,
            "decoder_ffn_dim": FFN,
            "decoder_layers": config.decoder_layers,
            "num_queries": config.num_queries,
            "num_denoising": config.num_denoising,
            "label_noise": config.label_noise_ratio,
            "box_noise": config.box_noise_scale,
            "points": [config.decoder_n_points],
            **settings,
        },
    )
    model.load_state_dict(from_huggingface(theirs.state_dict()))
    return model.eval()


def images(size: tuple[int, int]) -> Tensor:
    return torch.rand(len(TARGETS), 3, *size, generator=torch.Generator().manual_seed(7))


def use_official_positions(monkeypatch: pytest.MonkeyPatch, theirs: nn.Module) -> None:
    """Put the official position embedding into a model of transformers."""

    def official(width: int, height: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        return position_embedding(width, height, WIDTH).to(device, dtype)

    embeddings = [module for module in theirs.modules() if type(module).__name__.endswith("SinePositionEmbedding")]
    assert embeddings
    for embedding in embeddings:
        monkeypatch.setattr(embedding, "forward", official)


@torch.no_grad()
def difference(theirs: nn.Module, ours: RTDETR, size: tuple[int, int]) -> float:
    """The largest difference between the two models' logits and boxes."""
    output, prediction = theirs(images(size)), ours(images(size)).prediction
    pairs = ((output.logits, prediction.logits), (output.pred_boxes, prediction.boxes))
    return max((theirs - ours).abs().max().item() for theirs, ours in pairs)


@pytest.mark.parametrize("layer_type", BACKBONES)
@pytest.mark.parametrize("version", VERSIONS)
def test_outputs_on_squares(version: int, layer_type: str) -> None:
    theirs = their_model(version, layer_type)
    assert difference(theirs, our_model(theirs, layer_type), SQUARE) < 1e-4


@pytest.mark.parametrize("size", [WIDE, HIGH])
@pytest.mark.parametrize("version", VERSIONS)
def test_outputs_on_rectangles(version: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = their_model(version)
    ours = our_model(theirs)
    assert difference(theirs, ours, size) > 1e-2, "transformers has the official positions on rectangles by now"
    use_official_positions(monkeypatch, theirs)
    assert difference(theirs, ours, size) < 1e-4


@pytest.mark.parametrize("size", [SQUARE, HIGH])
def test_outputs_with_discrete_sampling(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = their_model(2, decoder_method="discrete")
    use_official_positions(monkeypatch, theirs)
    assert difference(theirs, our_model(theirs, sampling="discrete"), size) < 1e-4


@pytest.mark.parametrize("denoising", [0, 12])
# transformers cannot build a v2 model with a single decoder layer.
@pytest.mark.parametrize(("version", "layers"), [(1, 1), (1, 3), (2, 3)])
def test_losses_and_gradients(version: int, layers: int, denoising: int) -> None:
    theirs = their_model(
        version,
        freeze_backbone_batch_norms=False,
        decoder_layers=layers,
        num_denoising=denoising,
        # Without noise there is nothing random in denoising.
        label_noise_ratio=0.0,
        box_noise_scale=0.0,
    )
    ours = our_model(theirs).train()
    theirs.train()
    labels = [{"class_labels": target["labels"], "boxes": target["boxes"]} for target in TARGETS]
    wanted = in_our_words(theirs(images(SQUARE), labels=labels).loss_dict, layers)
    losses = ours.criterion(ours(images(SQUARE), TARGETS), TARGETS, SQUARE)
    assert losses.keys() == wanted.keys()
    assert any("denoising" in name for name in losses) == (denoising > 0)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, wanted[name], atol=1e-4, rtol=1e-4, msg=lambda text, name=name: name + text)
    # Boxes of later layers have another gradient there, see above.
    alike = [name for name in losses if name.startswith("class") or name.endswith("0") or layers == 1]
    torch.stack([losses[name] for name in alike]).sum().backward()
    torch.stack([wanted[name] for name in alike]).sum().backward()
    compare_gradients(theirs, ours)


def in_our_words(losses: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Losses of transformers under our names; the last of the auxiliary predictions is the encoder's."""
    renamed = {}
    for name, value in losses.items():
        _, term, *rest = name.split("_")
        if not rest:
            renamed[TERMS[term]] = value
        elif rest[0] == "dn":
            renamed[f"{TERMS[term]}.denoising{rest[1]}"] = value
        else:
            layer = "encoder0" if int(rest[1]) == layers - 1 else f"layer{rest[1]}"
            renamed[f"{TERMS[term]}.{layer}"] = value
    return renamed


def compare_gradients(theirs: nn.Module, ours: RTDETR) -> None:
    """Fail unless every parameter has the same gradient in both."""
    found = {name: parameter.grad for name, parameter in theirs.named_parameters(remove_duplicate=False)}
    shapes = dict(theirs.named_parameters(remove_duplicate=False))
    wanted = from_huggingface(
        {name: torch.zeros_like(shapes[name]) if grad is None else grad for name, grad in found.items()}
    )
    compared = 0
    for name, parameter in ours.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        scale = max(wanted[name].abs().max().item(), 1e-2)
        torch.testing.assert_close(
            gradient / scale, wanted[name] / scale, atol=2e-3, rtol=1e-2, msg=lambda text, name=name: f"{name}: {text}"
        )
        compared += bool(wanted[name].abs().max() > 1e-6)
    assert compared > 200


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("layer_type", BACKBONES)
@pytest.mark.parametrize("version", VERSIONS)
def test_checkpoints_both_ways(version: int, layer_type: str, frozen: bool, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    theirs = their_model(version, layer_type, freeze_backbone_batch_norms=frozen, num_denoising=12)
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    ours = our_model(theirs, layer_type)
    ours.load_state_dict(from_huggingface(load_file(file)))
    assert difference(theirs, ours, SQUARE) < 1e-4

    save_file(to_huggingface(ours.state_dict()), file, metadata={"format": "pt"})
    again, info = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert difference(again.eval(), ours, SQUARE) < 1e-4
    # What is computed from the configuration, or never read.
    ignored = ("n_points_scale", "num_batches_tracked")
    assert all(name.endswith(ignored) for name in (*info["missing_keys"], *info["unexpected_keys"]))
    assert not info["mismatched_keys"]


def test_foreign_names_are_reported() -> None:
    theirs = their_model(1)
    with pytest.raises(DetrofitError, match=r"'model\.decoder\.reg_conf\.0' is no entry"):
        from_huggingface({**theirs.state_dict(), "model.decoder.reg_conf.0": torch.zeros(1)})
    state = theirs.state_dict()
    del state["model.decoder.layers.0.self_attn.k_proj.weight"]
    with pytest.raises(DetrofitError, match=r"lacks 'k_proj' beside model\.decoder\.layers\.0\.self_attn"):
        from_huggingface(state)
    ours = build("rtdetr-n", {"backbone.stage4.block": "extradw"}, num_classes=2)
    with pytest.raises(DetrofitError, match=r"no counterpart of 'backbone\.stage4"):
        to_huggingface(ours.state_dict())


def test_published_weights_start_a_retrofit() -> None:
    theirs = their_model(1, num_denoising=12)
    ours = build(
        "rtdetr-r18",
        {
            "backbone": {"part": "resnet-vd", "widths": BACKBONES["basic"]["hidden_sizes"]},
            "backbone.stage4.block": "extradw",
            "encoder.attention": {"part": "aifi", "ffn_dim": FFN},
        },
        num_classes=CLASSES,
        settings={"hidden_dim": WIDTH, "decoder_dim": WIDTH, "decoder_ffn_dim": FFN, "decoder_layers": 2},
    )
    names = [str(index) for index in range(CLASSES)]
    report = transfer(ours, from_huggingface(theirs.state_dict()), names, names)
    assert report.fresh and all(name.startswith("backbone.stage4.") for name in report.fresh)


def test_heads_inside_the_decoder_are_those_that_count() -> None:
    theirs = their_model(2)
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    state |= {name: torch.zeros_like(tensor) for name, tensor in state.items() if name.startswith("class_embed.")}
    inside = theirs.state_dict()["model.decoder.class_embed.1.weight"]
    assert torch.equal(from_huggingface(state)["decoder.score_head.layer1.weight"], inside)
