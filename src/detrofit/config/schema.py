"""The schema of an experiment: every setting with its default, range and reason, in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

Probability = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]  # in a file no shell has put the home folder for ~
Side = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]


# What `weights` may be beside files, URLs and names on the hub.
AUTO_WEIGHTS, IMAGENET_WEIGHTS, NO_WEIGHTS = "auto", "imagenet", "none"


class Section(BaseModel):
    """Settings that belong together; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), validate_default=True, allow_inf_nan=False)


class AugmentSettings(Section):
    """Changes of training pictures, each with its probability. The defaults are the published recipe."""

    photometric: Probability = Field(0.5, description="random brightness, contrast, saturation, hue")
    zoom_out: Probability = Field(0.5, description="paste the picture on a canvas up to 4 times as large")
    iou_crop: Probability = Field(0.8, description="crop that keeps boxes by their overlap with it")
    horizontal_flip: Probability = Field(0.5, description="mirror left and right")
    vertical_flip: Probability = Field(0.0, description="mirror top and bottom; for pictures without an up")
    mosaic: Probability = Field(0.0, description="four pictures in one")
    mixup: Probability = Field(0.0, description="two pictures blended")
    multiscale: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.25,
        description="train at sizes up to this share smaller and larger, rounded outwards to steps of 32 pixels; "
        "0: one size",
    )
    stop_epochs: Annotated[int, Field(ge=0)] | None = Field(
        None, description="last epochs without the strong changes (all but the flips); default: a thirtieth, at least 1"
    )
    rare_class_threshold: Probability | None = Field(
        None, description="show pictures of classes rarer than this share of pictures more often (arXiv:1908.03195)"
    )


class TrainSettings(Section):
    """The training loop."""

    epochs: Annotated[int, Field(ge=1)] | None = Field(
        None, description="passes over the data; default: what makes about 7,200 steps, within 12 to 120"
    )
    batch: Annotated[int, Field(ge=1)] = Field(8, description="pictures of a step over all processes")
    accumulate: Annotated[int, Field(ge=1)] = Field(1, description="steps whose gradients are summed into one update")
    lr: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="peak learning rate; default: 1e-4 x sqrt(batch x accumulate / 16); 5 x that unless the "
        "whole model is pretrained or training takes more than 20,000 steps",
    )
    backbone_lr_factor: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="learning rate of the backbone as a share; default: 0.1 if the model is pretrained, 0.3 if the "
        "backbone alone is, 1 from random numbers",
    )
    lr_by_slot: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {}, description="factor of the learning rate for all that lies under an address, e.g. {backbone.stage4: 1.0}"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="AdamW's; norms and biases have none")
    betas: tuple[Momentum, Momentum] = Field((0.9, 0.999), description="AdamW's momenta")
    warmup_steps: Annotated[int, Field(ge=0)] | None = Field(
        None, description="steps of linear warm-up; default: a twentieth of all, at most 2,000"
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="after the warm-up: a half cosine to `final_lr`, or constant as published"
    )
    final_lr: Probability = Field(0.01, description="learning rate at the end as a share of the peak (cosine)")
    clip: Annotated[float, Field(gt=0)] = Field(0.1, description="largest norm of a gradient")
    ema_decay: Momentum = Field(
        0.9999, description="of the averaged weights; shortened where training has too few steps for it"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="bf16 where native, else fp16 with a scaler on CUDA, else fp32"
    )
    freeze: list[str] = Field([], description="addresses that are not trained, e.g. [backbone.stem]")
    frozen_norms: list[str] = Field([], description="addresses whose batch norms keep their statistics and weights")
    channels_last: bool = Field(True, description="memory format of pictures and weights; faster convolutions")
    warm_start: Literal["none", "distill"] = Field(
        "none", description="distill: fresh parts first learn to imitate what they replace in the model of `weights`"
    )
    warm_start_steps: Annotated[int, Field(ge=1)] = Field(300, description="steps of that imitation")
    save_every: Annotated[int, Field(ge=1)] = Field(500, description="steps between saved states for --resume")
    val_every: Annotated[int, Field(ge=1)] = Field(1, description="epochs between validations")
    val_split: str = Field("val", description="split that chooses the best checkpoint")
    teacher: UserPath | None = Field(
        None,
        description="a trained model file (or run folder) whose predictions are learnt beside the targets; it may "
        "differ from the student in everything but the classes (arXiv:2211.08071)",
    )
    teacher_weight: Annotated[float, Field(gt=0)] = Field(
        1.0, description="factor of what the student loses against the teacher; 1: in proportion to the other losses"
    )


class ModelSettings(BaseModel):
    """The stock model by name; every other key is a number of its frame (see `detrofit.model.frame.Frame`)."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    name: str = Field(description="a model of the zoo; `detrofit models` lists them")

    @property
    def frame(self) -> dict[str, Any]:
        """The numbers of the frame that differ from the stock model's."""
        return dict(self.model_extra or {})


class Experiment(Section):
    """One training: a model with its retrofit, data, and how to train."""

    model: ModelSettings = Field(description="a name, or a mapping with `name` and numbers of the frame")
    retrofit: dict[str, Any] = Field({}, description="slots to parts")
    plugins: list[UserPath] = Field([], description="files with parts of one's own")
    data: UserPath = Field(description="data.yaml, COCO JSON or folder, or VOC folder")
    imgsz: tuple[Side, Side] = Field(
        (640, 640), description="height and width of the network's input; one number for both"
    )
    weights: str = Field(
        AUTO_WEIGHTS,
        description="what to start from: a model file, another program's checkpoint, a backbone's weights, a URL, "
        "hf:ORGANISATION/NAME; auto: published COCO weights of the model, else ImageNet weights of its backbone, as "
        "far as they can be had; imagenet; none: random numbers",
    )
    require: list[str] = Field([], description="addresses that must be taken over from `weights` whole")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="of every random stream")
    device: str = Field("auto", description="cpu, cuda, cuda:1, mps; auto takes the best there is")
    workers: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="processes that load pictures; default: one a core, at most 8; processes of one training share the "
        "cores",
    )
    runs: UserPath = Field(Path("runs"), description="folder of run folders")
    name: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="name of the run folder; default: the model and a number"
    )
    train: TrainSettings = Field(TrainSettings(), description="the training loop")
    augment: AugmentSettings = Field(AugmentSettings(), description="changes of training pictures")

    @field_validator("model", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("weights", mode="before")
    @classmethod
    def _no_weights(cls, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("~"):
            return str(Path(value).expanduser())
        return NO_WEIGHTS if value in (None, "scratch") else value

    @field_validator("imgsz", mode="before")
    @classmethod
    def _one_side(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) else value
