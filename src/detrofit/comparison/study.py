"""A study: one base model, variants of it that are each a mapping, controls, seeds; checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from detrofit.comparison.controls import CONTROLS, control_changes
from detrofit.comparison.statistics import MOST_SEEDS
from detrofit.config.load import load_experiment, merge_dotted, read_yaml, setting_keys
from detrofit.config.schema import AUTO_WEIGHTS, NO_WEIGHTS, Experiment, Section
from detrofit.errors import DetrofitError, nearest

BASE = "base"
LONGEST_NAME = 120  # bytes; files add a seed and an identity to it, and may have 255
Kind = Literal["base", "variant", "control"]
TRADED = ("imgsz", "model.num_queries", "model.decoder_layers")  # what a trained model can change
_VARIED = ("model", "imgsz", "weights", "train", "augment")  # settings that a variant may change beside slots
_FIXED = tuple(name for name in Experiment.model_fields if name not in (*_VARIED, "retrofit"))


class StudySettings(Section):
    """What a study file says beside the settings of the base's training."""

    variants: dict[str, dict[str, Any]] = Field({}, description="name to a mapping of slots to parts, or of settings")
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        [0, 1, 2, 3, 4, 5], description="a number of seeds, counted from 0, or a list"
    )
    controls: list[str] = Field([], description=f"of {', '.join(CONTROLS)}; `all` for all")
    traded: dict[str, dict[str, Any]] = Field(
        {}, description=f"name to {', '.join(TRADED)} that the trained base is scored at: a control without a training"
    )
    margin: Annotated[float, Field(gt=0)] = Field(0.5, description="AP points (of 100) that are of no interest")
    resamples: Annotated[int, Field(ge=100)] = Field(2000, description="draws of the test pictures")
    test_split: str = Field("test", description="split of the verdict")
    latency_rounds: Literal[0] | Annotated[int, Field(ge=6)] = Field(
        50, description="how often each model is timed at the end, fused and exported; 0: not at all"
    )
    external: dict[str, Annotated[list[Path], Field(min_length=1)]] = Field(
        {}, description="name to COCO predictions of the test split, a file a seed"
    )

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, value: Any) -> Any:
        return list(range(min(value, MOST_SEEDS + 1))) if isinstance(value, int) else value

    @field_validator("controls", mode="before")
    @classmethod
    def _all(cls, value: Any) -> Any:
        return list(CONTROLS) if value in ("all", ["all"], True) else value


@dataclass(frozen=True)
class Variant:
    """One line of the study: what it changes of the base, and the whole experiment (of seed 0) that this makes.

    `described` is the experiment with its model resolved to every option.
    """

    name: str
    kind: Kind
    changes: dict[str, Any]
    experiment: Experiment
    described: dict[str, Any] = field(repr=False)

    @property
    def changed_settings(self) -> list[str]:
        """What differs beside slots, which makes the comparison one of more than a swap."""
        return [key for key in self.changes if _is_setting(key)]


@dataclass(frozen=True)
class Study:
    """All that is compared: variants, the base first, and how; `traded` are scored without a training."""

    variants: tuple[Variant, ...]
    settings: StudySettings
    notes: list[str] = field(default_factory=list)
    traded: tuple[Variant, ...] = ()

    @property
    def base(self) -> Variant:
        """What all others are compared with."""
        return self.variants[0]

    @property
    def all_variants(self) -> tuple[Variant, ...]:
        """Those that are trained, then those that are not."""
        return (*self.variants, *self.traded)


def read_study(file: Path) -> dict[str, Any]:
    """The mapping in a study's YAML; DetrofitError also where two variants have one name."""
    values = read_yaml(file)
    root = yaml.compose(file.read_text("utf-8"))
    for key, value in root.value if isinstance(root, yaml.MappingNode) else []:
        if key.value in ("variants", "traded", "external") and isinstance(value, yaml.MappingNode):
            refuse_same_names(name.value for name, _ in value.value)
    return values


def refuse_same_names(names: Iterable[str]) -> None:
    """DetrofitError if a name comes twice; capitals do not tell files apart everywhere."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.get(name.casefold())
        if other == name:
            raise DetrofitError(f"two variants are called '{name}'; give each its own name")
        if other is not None:
            raise DetrofitError(f"the variants '{other}' and '{name}' differ in capitals alone; rename one of them")
        seen[name.casefold()] = name


def _check_names(names: Iterable[str]) -> None:
    """DetrofitError for a name that no file can have everywhere, or that does not fit into a line."""
    for name in names:
        if not name or set(name) & set('/\\:*?"<>|') or not name.isprintable() or len(name.encode()) > LONGEST_NAME:
            raise DetrofitError(
                f"{name[:40]!r} cannot name a variant: it becomes a folder's name, up to {LONGEST_NAME} bytes of "
                'printable characters but / \\ : * ? " < > |'
            )


def load_study(values: Mapping[str, Any]) -> Study:
    """A checked study from the settings of an experiment and those of `StudySettings` together."""
    own = {key: value for key, value in values.items() if key in StudySettings.model_fields}
    settings = _settings(own)
    # Published weights fit the base better than its variants, which would then lose to the weights and not to the base.
    rest = {"weights": NO_WEIGHTS, **{key: value for key, value in values.items() if key not in own}}
    _check_keys(rest)
    base = _variant(BASE, "base", {}, rest)
    _check_seeds(settings.seeds)
    named = [*settings.variants, *settings.external, *settings.traded]
    _check_names(named)
    refuse_same_names([BASE, *named])
    variants = [_variant(name, "variant", changes, rest) for name, changes in settings.variants.items()]
    for each in variants:
        if each.described == base.described:
            raise DetrofitError(f"variant '{each.name}' changes nothing: it is the base; change a slot or a setting")
    _refuse_equal(variants)
    controls, notes = _controls(settings.controls, base, variants, rest)
    refuse_same_names([*named, *(each.name for each in controls)])
    traded = [_traded(name, changes, base, rest) for name, changes in settings.traded.items()]
    _refuse_equal(traded)
    if not (variants or controls or traded or settings.external):
        raise DetrofitError("a study needs something to compare: give --variant, --controls, --traded or --external")
    return Study((base, *variants, *controls), settings, notes, tuple(traded))


def _refuse_equal(variants: Sequence[Variant]) -> None:
    """DetrofitError if two are the same under two names."""
    for number, each in enumerate(variants):
        same = next((other for other in variants[:number] if other.described == each.described), None)
        if same is not None:
            raise DetrofitError(f"variants '{same.name}' and '{each.name}' are the same; leave one of them out")


def _check_seeds(seeds: list[int]) -> None:
    if len(set(seeds)) < len(seeds) or not seeds:
        raise DetrofitError("seeds must be given, each once")
    if len(seeds) > MOST_SEEDS:
        raise DetrofitError(f"these are more than {MOST_SEEDS} seeds, up to which the sign-flip test is exact")


def describe(experiment: Experiment) -> dict[str, Any]:
    """The experiment with its model resolved to every option, to compare two; DetrofitError if it cannot be built."""
    built = assembled(experiment)
    content = experiment.model_dump(mode="json", exclude={"retrofit", "runs", "name", "device", "workers"})
    return {**content, "model": built.frame.model_dump(mode="json"), "slots": built.slots}


def assembled(experiment: Experiment) -> Any:
    """The experiment's model on the meta device: shapes without numbers, for one class."""
    import torch

    from detrofit.config.models import frame_and_choices
    from detrofit.model.build import assemble
    from detrofit.parts.registry import load_plugins

    load_plugins(experiment.plugins)
    frame, stock, retrofit = frame_and_choices(experiment.model.name, experiment.retrofit, experiment.model.frame)
    with torch.device("meta"):
        model, _ = assemble(frame, stock, retrofit, num_classes=1)
    return model


def _settings(values: Mapping[str, Any]) -> StudySettings:
    try:
        return StudySettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(piece) for piece in first["loc"])
        raise DetrofitError(f"study setting '{key}' = {first['input']!r}: {first['msg'].lower()}") from None


def _check_keys(values: Mapping[str, Any]) -> None:
    known = [*Experiment.model_fields, *StudySettings.model_fields]
    for key in values:
        if key not in known:
            raise DetrofitError(f"a study has no setting '{key}'{nearest(str(key), known)}")
    for key in ("seed", "name", "runs"):
        if key in values:
            raise DetrofitError(f"a study has no setting '{key}': seeds are given by `seeds`, its folder by --out")


def _is_setting(key: str) -> bool:
    return key.partition(".")[0] in Experiment.model_fields and not key.startswith("retrofit")


def _variant(name: str, kind: Kind, changes: Mapping[str, Any], base: Mapping[str, Any]) -> Variant:
    values = dict(base)
    for key, value in changes.items():
        head = key.partition(".")[0]
        if head in _FIXED:
            raise DetrofitError(f"variant '{name}' cannot change '{key}': it is the same for a whole study")
        is_setting = head in _VARIED or head == "retrofit"
        values = merge_dotted(values, _flat(key, value) if is_setting else {f"retrofit.{key}": value})
    try:
        experiment = load_experiment(values)
        if experiment.weights == AUTO_WEIGHTS:
            raise DetrofitError("weights 'auto' depend on the network of the moment; name them, or give none")
        return Variant(name, kind, dict(changes), experiment, describe(experiment))
    except DetrofitError as error:
        raise error if kind == "base" else DetrofitError(f"{kind} '{name}': {error}{_setting_hint(changes)}") from None


def _flat(key: str, value: Any) -> dict[str, Any]:
    """A section given as a mapping, as dotted keys, so that what it leaves out stays the base's; a part stays whole."""
    if isinstance(value, dict) and not key.startswith("retrofit."):
        return {f"{key}.{inner}": each for inner, each in value.items()}
    return {"model.name": value} if key == "model" else {key: value}


def _setting_hint(changes: Mapping[str, Any]) -> str:
    leaves = {key.rpartition(".")[2]: key for key in setting_keys()}
    return next((f" ('{leaves[key]}' is the setting)" for key in changes if key in leaves and key not in _VARIED), "")


def _controls(
    names: list[str], base: Variant, variants: list[Variant], values: Mapping[str, Any]
) -> tuple[list[Variant], list[str]]:
    for name in names:
        if name not in CONTROLS:
            raise DetrofitError(
                f"there is no control '{name}'{nearest(name, CONTROLS)}; there are {', '.join(CONTROLS)}"
            )
    others = [_compute(each.experiment) for each in variants] if "longer" in names else []
    changes, notes = control_changes(names, base.experiment, assembled(base.experiment).frame, _compute, others)
    controls: list[Variant] = []
    for name, change in changes.items():
        try:
            control = _variant(name, "control", change, values)
        except DetrofitError as error:  # what the base swaps may fit no other size
            notes.append(f"left out: {error}")
            continue
        same = [each.name for each in (base, *variants) if each.described == control.described]
        if same:
            notes.append(f"control '{name}' is left out: it is the variant '{same[0]}'")
        else:
            controls.append(control)
    return controls, notes


def _traded(name: str, changes: Mapping[str, Any], base: Variant, values: Mapping[str, Any]) -> Variant:
    """The trained base at other numbers; DetrofitError for any that need a training."""
    from detrofit.weights.truncate import truncated_frame

    for key in changes:
        if key not in TRADED:
            raise DetrofitError(
                f"traded '{name}' cannot change '{key}' without a training; it takes {', '.join(TRADED)}"
            )
    # What is cut down runs all layers that it has; so does the base once it is cut to those that it runs.
    layers = base.described["model"]["eval_decoder_layers"]
    as_run = {"model.decoder_layers": layers, "model.eval_decoder_layers": None} if layers else {}
    stock, made = (_variant(name, "control", {**as_run, **each}, values) for each in ({}, changes))
    if made.described == stock.described:
        raise DetrofitError(f"traded '{name}' changes nothing: it is the base")
    frame = made.described["model"]
    try:
        truncated_frame(
            assembled(base.experiment), num_queries=frame["num_queries"], decoder_layers=frame["decoder_layers"]
        )
    except DetrofitError as error:
        raise DetrofitError(f"traded '{name}': {error}") from None
    return replace(made, changes=dict(changes))


def _compute(experiment: Experiment) -> float:
    """Operations of a training up to a common factor: those of a picture, times epochs where they are given."""
    from detrofit.model.costs import count_flops

    return count_flops(assembled(experiment), experiment.imgsz) * (experiment.train.epochs or 1)


def parse_variants(texts: Iterable[str], known: Any = None) -> dict[str, Any]:
    """`NAME: {SLOT: PART}` texts beside those of a file; DetrofitError where a name comes twice."""
    found = by_name(known, "variants")
    for text in texts:
        try:
            content = yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:
            raise DetrofitError(f"--variant is no readable YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict) or not all(isinstance(value, dict) for value in content.values()):
            raise DetrofitError(f"--variant takes 'NAME: {{SLOT: PART}}', not '{text}'")
        refuse_same_names(map(str, [*found, *content]))
        found |= {str(name): changes for name, changes in content.items()}
    return found


def parse_external(texts: Iterable[str], known: Any = None) -> dict[str, Any]:
    """`NAME=FILE,FILE` texts beside what a file names; DetrofitError where a name comes twice."""
    found = by_name(known, "external")
    for text in texts:
        name, equals, files = text.partition("=")
        if not equals or not files:
            raise DetrofitError(f"--external takes NAME=FILE,FILE, not '{text}'")
        refuse_same_names(map(str, [*found, name]))
        found[name] = files.split(",")
    return found


def by_name(known: Any, key: str) -> dict[str, Any]:
    """A study setting that maps names to what they stand for; DetrofitError if it is something else."""
    if not isinstance(known, (Mapping, type(None))):
        raise DetrofitError(f"study setting '{key}' = {known!r} must map names to what they stand for")
    return dict(known or {})
