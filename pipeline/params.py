"""``params.yaml`` as frozen, typed objects; read once, at the edge of every stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.error import YAMLError

from pipeline.errors import ParamsError
from pipeline.files import replacing

PARAMS_FILE = Path("params.yaml")

Task = Literal["genre", "mood"]
ModelName = Literal[
    "lenet5", "cnn64", "cnn64_gap", "musicnn_probe"
]  # the keys of pipeline.training.models.MODELS
Protocol = Literal["artist", "fault_filtered", "track", "shuffled"]
Aggregation = Literal["share", "majority", "dawid_skene"]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
OpenShare = Annotated[float, Field(gt=0.0, lt=1.0)]
# Upper limits are far above what anybody needs: they are there for a slip of the keys, which would otherwise
# only be noticed when the memory or the night is used up.
Count = Annotated[int, Field(ge=1, le=100_000)]
CountOrNone = Annotated[int, Field(ge=0, le=100_000)]
FramesOrBands = Annotated[int, Field(ge=0, le=1_000)]

AudioCheck = Literal[
    "decodes",
    "truncated",
    "damaged",
    "joined",
    "sample_rate",
    "channels",
    "duration",
    "silence",
    "clipping",
    "finite",
    "duplicate_content",
    "genre_folder",
    "unique_id",
    "tracks_per_genre",
    "usable_share",
]
LabelCheck = Literal[
    "schema",
    "known_track",
    "known_mood",
    "date_format",
    "confidence",
    "unique_annotation",
    "labels_per_class",
]
IntakeCheck = Literal[
    "columns",
    "schema",
    "cell_size",
    "known_track",
    "known_mood",
    "date_format",
    "future_date",
    "past_date",
    "characters",
    "confidence",
    "spelling",
    "duplicate",
    "conflict",
    "same_answer",
    "class_shift",
    "extra_columns",
]
Severity = Literal["critical", "warning"]
ClassWeight = Literal["balanced", "none"]
Pooling = Literal["mean_max", "mean", "flatten"]

# What the stage ``labels`` stops on: such a row, once merged, would stop every later training.
ALWAYS_CRITICAL: Final[tuple[IntakeCheck, ...]] = (
    "schema",
    "known_track",
    "known_mood",
    "date_format",
    "confidence",
    "duplicate",
    "conflict",
)


_ABSENT: Final = object()

# Words of earlier versions that a params.yaml may hold: (key, value or None for the key) → the word now.
RENAMED: Final[Mapping[tuple[str, str | None], str]] = {
    ("split.protocol", "seed"): "shuffled",
    ("train.augment", "seed"): "report",
    ("train.augment", "spec"): "specaugment",
    ("train.spec", None): "train.specaugment",
}


class Section(BaseModel):
    """A section: no unknown keys, no silent conversions, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class CatalogParams(Section):
    """Thresholds of the audio checks; see ``pipeline.quality.audio``."""

    min_seconds: Annotated[float, Field(gt=0)]
    max_seconds: Annotated[float, Field(gt=0)]
    silence_dbfs: Annotated[float, Field(ge=-200, lt=0)]
    max_clipped: Share
    min_tracks_per_genre: CountOrNone
    min_usable: Share
    severity: dict[AudioCheck, Severity]

    @model_validator(mode="after")
    def _is_a_range(self) -> CatalogParams:
        if self.min_seconds > self.max_seconds:
            raise ValueError(
                f"expected min_seconds up to max_seconds, received {self.min_seconds} and {self.max_seconds}"
            )
        return self

    @field_validator("max_seconds")
    @classmethod
    def _can_be_served(cls, seconds: float) -> float:
        from pipeline.inference.audio import MAX_SECONDS  # decoders, which reading parameters does not need

        if seconds > MAX_SECONDS:
            raise ValueError(f"expected at most {MAX_SECONDS}, the longest that is served")
        return seconds


class LabelsParams(Section):
    """How annotations become labels, see ``pipeline.labelling.aggregation``; thresholds of their checks."""

    aggregation: Aggregation
    min_labels_per_class: CountOrNone
    severity: dict[LabelCheck, Severity]


class IntakeParams(Section):
    """Allowed sizes and thresholds of new labels; see ``pipeline.quality.intake``."""

    max_rows: Annotated[int, Field(ge=1, le=10_000_000)]
    max_megabytes: Annotated[int, Field(ge=1, le=2_000)]
    max_columns: Annotated[int, Field(ge=1, le=1_000)]
    max_values: Annotated[int, Field(ge=1, le=100_000_000)]
    max_cell: Annotated[int, Field(ge=1, le=10_000)]
    same_answer_rows: Annotated[int, Field(ge=2, le=100_000)]
    shift_rows: Count
    shift_distance: Share
    shift_p_value: OpenShare
    severity: dict[IntakeCheck, Severity]

    @field_validator("severity")
    @classmethod
    def _keeps_what_training_needs(cls, severity: dict[IntakeCheck, Severity]) -> dict[IntakeCheck, Severity]:
        relaxed = [name for name in ALWAYS_CRITICAL if severity.get(name) == "warning"]
        if relaxed:
            free = [name for name in get_args(IntakeCheck) if name not in ALWAYS_CRITICAL]
            raise ValueError(
                f"{', '.join(relaxed)} must stay critical, or such rows would be merged and the stage "
                f"`labels` would stop on them at every training; a warning may be {', '.join(free)}"
            )
        return severity


class SpectrogramParams(Section):
    """The log-mel spectrogram: window and hop in samples, number of mel bands."""

    n_fft: Annotated[int, Field(ge=16, le=32_768)]
    hop_length: Annotated[int, Field(ge=1, le=32_768)]
    n_mels: Annotated[int, Field(ge=1, le=1_000)]
    waveform_copies: bool


class SplitParams(Section):
    """The protocol and the shares of tracks held out."""

    protocol: Protocol
    valid: OpenShare
    test: OpenShare

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> SplitParams:
        if self.valid + self.test >= 1:
            raise ValueError(f"expected valid + test below 1, received {self.valid} + {self.test}")
        return self


class SpecAugmentParams(Section):
    """On-the-fly augmentation of log-mel slices: lengths in frames and bands, gain in dB."""

    time_masks: Annotated[int, Field(ge=0, le=100)]
    time_mask_frames: FramesOrBands
    mel_masks: Annotated[int, Field(ge=0, le=100)]
    mel_mask_bands: FramesOrBands
    gain_db: Annotated[float, Field(ge=0, le=60)]
    shift_frames: FramesOrBands
    mixup_alpha: Annotated[float, Field(ge=0, le=100)]


class ModelParams(Section):
    """A network's training schedule."""

    epochs: Count
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    patience: Count


class PooledParams(ModelParams):
    """A network whose architecture and training are chosen by a study; its own keys go before the shared."""

    schedule: Literal["cosine", "constant"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_weight: ClassWeight
    augment: Literal["none", "specaugment"]
    mixup_alpha: Annotated[float, Field(ge=0, le=100)]
    batch_norm: bool
    pooling: Pooling
    spatial_dropout: Annotated[float, Field(ge=0, lt=1)]

    @property
    def architecture(self) -> dict[str, Any]:
        """Return how the network is built."""
        return self.model_dump(include={"batch_norm", "pooling", "spatial_dropout"})


class ProbeParams(Section):
    """A probe's inverse strengths of regularisation, of which the validation part chooses one."""

    c: Annotated[list[Annotated[float, Field(gt=0, le=1e6)]], Field(min_length=1, max_length=100)]


_KINDS: Final[Mapping[str, type[Section]]] = {
    "network": ModelParams,
    "pooled": PooledParams,
    "probe": ProbeParams,
}
_ENDS: Final = {"_probe": "probe", "_gap": "pooled"}  # of the names of models that are not plain networks


def _kind(section: Any) -> str:
    """Return which kind of model a section of ``train.models`` is for: a probe has ``c``."""
    if isinstance(section, Section):
        return next(kind for kind, own in _KINDS.items() if type(section) is own)
    keys = section if isinstance(section, Mapping) else {}
    return "probe" if "c" in keys else "pooled" if "pooling" in keys else "network"


def _kind_of(name: str) -> str:
    return next((kind for end, kind in _ENDS.items() if name.endswith(end)), "network")


OwnParams = Annotated[
    Annotated[ModelParams, Tag("network")]
    | Annotated[PooledParams, Tag("pooled")]
    | Annotated[ProbeParams, Tag("probe")],
    Discriminator(_kind),
]


class TrainParams(Section):
    """What all models' training shares, and each model's own schedule."""

    batch_size: Annotated[int, Field(ge=1, le=4_096)]
    slices_per_track: Annotated[int, Field(ge=1, le=1_000)] | None
    normalise: Literal["standard", "l2"]
    augment: Literal["none", "specaugment", "report"]
    targets: Literal["soft", "hard"]
    class_weight: ClassWeight
    choose_epoch_by: Literal["agreement", "macro_f1", "loss"]
    smooth_epochs: Count
    specaugment: SpecAugmentParams
    models: dict[ModelName, OwnParams]

    def of(self, own: ModelParams) -> TrainParams:
        """Return the section as it holds for a network that has keys of its own."""
        if not isinstance(own, PooledParams):
            return self
        ranges = self.specaugment.model_copy(update={"mixup_alpha": own.mixup_alpha})
        shared = {"augment": own.augment, "class_weight": own.class_weight, "specaugment": ranges}
        return self.model_copy(update=shared)


class EvaluateParams(Section):
    """Bins of the calibration error; the share of right answers that sure ones must have on validation."""

    calibration_bins: Annotated[int, Field(ge=1, le=1_000)]
    sure_precision: Share


class PromoteParams(Section):
    """The promotion rule's margin, least number of tracks, and floor; see ``pipeline.promotion_rule``."""

    margin: Annotated[float, Field(ge=0, le=1)] | None
    min_tracks: Count
    floor_confidence: Annotated[float, Field(ge=0, lt=1)]


class Params(Section):
    """All of ``params.yaml``."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    tasks: Annotated[list[Task], Field(min_length=1)]
    models: Annotated[list[ModelName], Field(min_length=1)]
    catalog: CatalogParams
    labels: LabelsParams
    intake: IntakeParams
    spectrogram: SpectrogramParams
    split: SplitParams
    train: TrainParams
    evaluate: EvaluateParams
    promote: PromoteParams

    @model_validator(mode="after")
    def _fits_together(self) -> Params:
        for name, own in self.train.models.items():
            kind = _kind_of(name)
            if _kind(own) != kind:
                wanted = ", ".join(_KINDS[kind].model_fields)
                raise ValueError(f"train.models.{name}: expected {wanted}, received a {_kind(own)}'s keys")
        for section, chosen in (("tasks", self.tasks), ("models", self.models)):
            if len(set(chosen)) < len(chosen):
                raise ValueError(f"{section}: expected each once, received {', '.join(chosen)}")
        if self.spectrogram.waveform_copies and any(name.endswith("_probe") for name in self.models):
            raise ValueError("spectrogram.waveform_copies: expected false, as models names a probe")
        missing = set(self.models) - set(self.train.models)
        if missing:
            raise ValueError(f"train.models lacks {', '.join(sorted(missing))}, which models names")
        if self.train.augment == "report" and not self.spectrogram.waveform_copies:
            raise ValueError(
                "train.augment: report expects spectrogram.waveform_copies: true, received false"
            )
        return self


def parse(values: Mapping[str, Any], *, source: str = str(PARAMS_FILE)) -> Params:
    """Turn a mapping into `Params`.

    Raises
    ------
    ParamsError
        A key is unknown, missing, mistyped or out of range; the message names every such key.
    """
    _refuse_renamed(values, source)
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        faults = [
            f"{_key(fault['loc'])}: {fault['msg']}, received {_received(fault)}" for fault in error.errors()
        ]
        raise ParamsError(f"{source}: " + "; ".join(faults) + ". Correct the key and run again.") from None


def _key(location: tuple[int | str, ...]) -> str:
    """Return a fault's key; pydantic also names the kind of a section that has several."""
    return ".".join(str(part) for part in location if part not in _KINDS) or "params"


def _refuse_renamed(values: Mapping[str, Any], source: str) -> None:
    """Say what a word of an earlier version is called now, rather than only that it is unknown."""
    faults = []
    for (key, old), new in RENAMED.items():
        found = _at(values, key)
        if old is None and found is not _ABSENT:
            faults.append(f"the section {key} is called {new} now")
        elif old is not None and found == old:
            faults.append(f"{key}: '{old}' is called '{new}' now")
    if faults:
        raise ParamsError(f"{source}: " + "; ".join(faults) + ". Write the new word and run again.")


def _at(values: Any, key: str) -> Any:
    """Return what is at a dotted key of unchecked values; `_ABSENT` if nothing is."""
    for name in key.split("."):
        if not isinstance(values, Mapping) or name not in values:
            return _ABSENT
        values = values[name]
    return values


def _received(fault: Any) -> str:
    if fault["type"] == "missing":
        return "nothing"
    return "a mapping" if isinstance(fault["input"], Mapping) else repr(fault["input"])


def read(path: Path = PARAMS_FILE) -> Params:
    """Read and check a params file.

    Raises
    ------
    ParamsError
        The file is not there, is not YAML, or a key is wrong.
    """
    return parse(load(path), source=str(path))


def load(path: Path) -> Any:
    """Return what a YAML file of sections holds, unchecked, with its comments."""
    try:
        values = YAML().load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"expected {path}, received no such file. Run in the project's root.") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"expected {path} to be YAML, received {' '.join(str(error).split())}") from None
    if not isinstance(values, Mapping):
        raise ParamsError(f"{path}: expected a mapping of sections, received {type(values).__name__}")
    return values


def apply_overlay(changes: Path, target: Path = PARAMS_FILE) -> None:
    """Write the values of the file ``changes`` over those of ``target``; comments and other keys stay.

    Raises
    ------
    ParamsError
        The outcome would not be a valid params file; ``target`` is left as it was.
    """
    values = load(target)
    overlay(values, load(changes))
    _write(target, values, source=f"{target} with {changes}")


def replace(target: Path, wanted: Mapping[str, Any], *, source: str) -> None:
    """Write ``wanted`` into ``target`` in place of all that it holds; comments stay.

    Raises
    ------
    ParamsError
        ``wanted``, which ``source`` names, is not valid; ``target`` is left as it was.
    """
    values = load(target)
    _make_equal(values, wanted)
    _write(target, values, source=source)


def _write(target: Path, values: Any, *, source: str) -> None:
    parse(values, source=source)
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8") as stream:
        _writer().dump(values, stream)


def _writer() -> YAML:
    """Return a writer that keeps this file's look: lists indented, long comments unwrapped, null said."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 200
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def overlay(values: Any, changes: Mapping[str, Any]) -> None:
    """Put ``changes`` into ``values``, section by section."""
    for key, change in changes.items():
        if isinstance(change, Mapping) and isinstance(values.get(key), Mapping):
            overlay(values[key], change)
        else:
            values[key] = change


def _make_equal(values: Any, wanted: Mapping[str, Any]) -> None:
    """Make ``values`` hold what ``wanted`` does and no more, section by section (comments hang on them)."""
    for key in [key for key in values if key not in wanted]:
        del values[key]
    for key, value in wanted.items():
        if isinstance(value, Mapping) and value and isinstance(values.get(key), Mapping):
            _make_equal(values[key], value)
        elif isinstance(values.get(key), CommentedSeq) and isinstance(value, list) and values[key] and value:
            _replace_items(values[key], value)
        elif key not in values or values[key] != value:
            values[key] = value


def _replace_items(listed: CommentedSeq, wanted: list[Any]) -> None:
    """Make a list hold other items; the blank lines and remarks behind its last one stay behind the last."""
    behind = listed.ca.items.pop(len(listed) - 1, None)
    listed[:] = wanted
    if behind is not None:
        listed.ca.items[len(listed) - 1] = behind
