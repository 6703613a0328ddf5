"""Describe in a methods section's sentences how models were trained, every setting included."""

from __future__ import annotations

import msgspec

from cello.audio.augment import AugmentConfig
from cello.cells.load import every_cell, is_own
from cello.features.config import FeatureConfig
from cello.features.frames import samples_of
from cello.report.results import StudyResults
from cello.report.settings_differences import StudySettings, listed, names_of, text_of
from cello.report.tables import parameters
from cello.training.config import CorpusRef, OptimiserConfig, RunConfig

MATCHED = {"parameters": "number of parameters", "flops": "number of operations a frame in its recurrent layers"}
OPTIMISERS = {"adamw": "AdamW", "adam": "Adam", "rmsprop": "RMSprop", "sgd": "SGD with momentum 0.9"}
DIFFERENCES = {0: "", 1: " with first differences", 2: " with first and second differences"}
NORMALISATIONS = {
    "corpus": "each standardised by its mean and deviation over the training clips",
    "clip": "each standardised by its mean and deviation over the clip",
    "none": "not standardised",
}
READOUTS = {
    "last": "the state that had seen the whole clip",
    "mean": "the mean of the outputs over time",
    "attention": "the outputs, weighted by learned attention,",
}
INITIALISATIONS = {
    "uniform": "uniform, within ± one over the root of the hidden size",
    "orthogonal": "orthogonal where recurrent and Glorot-uniform at the input",
}
CHOICES = {"last": "of the last epoch", "best": "of the epoch with the highest validation accuracy"}
TOLD = {
    "features": "kind rate_hz window_ms hop_ms n_mels n_mfcc low_hz high_hz pre_emphasis log_floor deltas delta_width "
    "delta_width_ms normalisation",
    "augment": "speed shift_ms noise_share snr_low_db snr_high_db time_masks time_mask_ms band_masks "
    "band_mask_width mixup warp",
    # of the back end not what was asked is told, but what computed each run
    "model": "cell equations hidden layers frame_stacking bidirectional dropout zoneout recurrent_dropout pooling "
    "initialisation forget_bias backend",
    "optimiser": "name learning_rate weight_decay schedule warmup clip_norm label_smoothing ema epochs batch choose",
    "data": "clips_per_label test_snr_db test_shift_ms test_lost_frames fold lost_frames",
}
"""The settings that the sentences are made for; any other is told as it is written."""


def sentences(results: StudyResults, found: StudySettings) -> list[str]:
    """Inputs, network, training, augmentation, choice of weights and the conditions of the test, in this order."""
    return [
        _inputs(found),
        _network(results, found),
        _weights(found),
        _training(found),
        _clips(found),
        _chosen(results, found),
        _fold(found),
        _lost(found),
        _robustness(found),
        _further(found),
    ]


def _inputs(found: StudySettings) -> str:
    window = found.told(lambda run: run.features.window_ms)
    hop = found.told(lambda run: _hop(run.features))
    stacked = found.told(lambda run: run.model.frame_stacking)
    steps = "" if stacked == "1" else f"; {stacked} of them were stacked into each step’s input"
    return (
        f"Inputs were {found.told(lambda run: _front_end(run.features))}, from windows of {window} ms {hop}, "
        f"{found.told(lambda run: NORMALISATIONS[run.features.normalisation])}{steps}."
    )


def _front_end(front: FeatureConfig) -> str:
    high = front.rate_hz / 2 if front.high_hz is None else front.high_hz
    kind = (
        f"{front.n_mfcc} MFCCs of {front.n_mels} mel bands" if front.kind == "mfcc" else f"{front.n_mels} log-mel bands"
    )
    deltas = f"{DIFFERENCES[front.deltas]} over {front.delta_frames} frames" if front.deltas else ""
    emphasis = f", pre-emphasis {front.pre_emphasis:g}" if front.pre_emphasis else ""
    return (
        f"{kind} from {front.low_hz:g} to {high:g} Hz{deltas} (sound at {front.rate_hz / 1000:g} kHz{emphasis}, band "
        f"energies floored at {front.log_floor:g})"
    )


def _hop(front: FeatureConfig) -> str:
    if front.hop_samples == samples_of(front.window_ms / 2, front.rate_hz):
        return "that overlap by half"
    return f"every {1000 * front.hop_samples / front.rate_hz:g} ms"


def _network(results: StudyResults, found: StudySettings) -> str:
    layers = found.told(lambda run: run.model.layers)
    hidden = found.told(lambda run: run.model.hidden)
    noun = "layer" if layers == "1" else "layers"
    by = MATCHED.get(results.match, "")
    matched = f", the size with which the {by} comes nearest to that of {results.match_to}" if by else ""
    noise = [
        f"{kind} {rate}{where}"
        for kind, rate, where in (
            ("dropout", found.told(lambda run: run.model.dropout), " between layers and before the classifier"),
            ("zoneout", found.told(lambda run: run.model.zoneout), ""),
            ("recurrent dropout", found.told(lambda run: run.model.recurrent_dropout), ""),
        )
        if rate != "0"
    ]
    return (
        f"Models had {layers} recurrent {noun} of {hidden} units{_both_ways(found)}{matched}; "
        f"{found.told(lambda run: READOUTS[run.model.pooling])} went to a linear classifier"
        f"{', with ' + listed(noise) if noise else ''} ({parameters([run.result for run in results.runs])} parameters)."
    )


def _both_ways(found: StudySettings) -> str:
    groups = {group.text: group for group in found.groups(lambda run: run.model.bidirectional)}
    if "True" not in groups:
        return ""
    both = groups["True"]
    if len(groups) == 1:
        return " in each of two directions"
    who = names_of(both) if both.names else f"some, by {both.decides}"
    return f" (in each of two directions: {who})"


def _weights(found: StudySettings) -> str:
    bias = found.told(_forget_bias)
    own = any(run.model.forget_bias and is_own(run.model.cell) for run in (kind.config for kind in found.kinds))
    where = " (of our own cells, to a bias b.f where they have one)" if own else ""
    raised = "" if bias == "0" else f", with {bias} added to the biases of forget gates{where}"
    return f"Initial weights were {found.told(lambda run: INITIALISATIONS[run.model.initialisation])}{raised}."


def _forget_bias(run: RunConfig) -> float:
    """What was added to biases, which are those named b.f; most cells have none."""
    name = run.model.cell
    if name in every_cell():
        nodes = every_cell()[name].graph.nodes
        has = any(node.op == "parameter" and str(node.name) == "b.f" for node in nodes)
    else:
        has = name == "torch:lstm" or is_own(name)
    return run.model.forget_bias if has else 0.0


def _training(found: StudySettings) -> str:
    epochs = found.told(lambda run: run.optimiser.epochs)
    decay = found.told(lambda run: run.optimiser.weight_decay)
    parts = [
        f"learning rate {found.told(lambda run: run.optimiser.learning_rate)}, "
        f"{found.told(lambda run: _schedule(run.optimiser))}",
        "no weight decay" if decay == "0" else f"weight decay {decay}",
    ]
    clipped = found.told(lambda run: run.optimiser.clip_norm or None)
    if clipped != "none":
        parts.append(f"gradients clipped to norm {clipped}")
    smoothed = found.told(lambda run: run.optimiser.label_smoothing)
    if smoothed != "0":
        parts.append(f"label smoothing {smoothed}")
    return (
        f"Training lowered the cross-entropy for {epochs} {'epoch' if epochs == '1' else 'epochs'} in batches of "
        f"{found.told(lambda run: run.optimiser.batch)} clips with "
        f"{found.told(lambda run: OPTIMISERS[run.optimiser.name])}: {'; '.join(parts)}."
    )


def _schedule(optimiser: OptimiserConfig) -> str:
    shape = "constant" if optimiser.schedule == "constant" else "falling to 0 along half a cosine"
    return f"{shape} after a linear rise over {100 * optimiser.warmup:g} % of the steps" if optimiser.warmup else shape


def _clips(found: StudySettings) -> str:
    few = found.told(lambda run: run.data.clips_per_label or "all")
    part = "" if few == "all" else f"Training used {few} clips of each label. "
    groups = found.groups(lambda run: _augmentation(run.augment))
    if len(groups) == 1:
        return f"{part}Training clips were {groups[0].text}."
    texts = [f"{group.text} ({names_of(group)})" if group.names else group.text for group in groups]
    which = "" if groups[0].names else f" (by {groups[0].decides})"
    return f"{part}Training clips were {'; or '.join(texts)}{which}."


def _augmentation(change: AugmentConfig) -> str:
    noise = (
        f"noise added to {100 * change.noise_share:g} % of them at {change.snr_low_db:g} to {change.snr_high_db:g} dB"
    )
    parts = [
        (change.speed, f"speed changed by up to {100 * change.speed:g} %"),
        (change.warp, f"frequencies warped by up to {100 * change.warp:g} %"),
        (change.shift_ms, f"moved by up to {change.shift_ms:g} ms either way"),
        (change.noise_share, noise),
        (change.time_masks, f"{_masks(change.time_masks)} of up to {change.time_mask_ms:g} ms"),
        (change.band_masks, f"{_masks(change.band_masks)} of up to {change.band_mask_width} coefficients"),
        (change.mixup, f"mixup with Beta parameter {change.mixup:g}"),
    ]
    named = ", ".join(text for on, text in parts if on)
    return f"changed anew in every epoch: {named}".replace("-", "−") if named else "left as they are"


def _masks(count: int) -> str:
    return f"{count} {'mask' if count == 1 else 'masks'}"


def _chosen(results: StudyResults, found: StudySettings) -> str:
    epochs = sorted({run.result.chosen_epoch for run in results.runs if run.result.config.optimiser.choose == "best"})
    seen = (
        "" if not epochs else f" (epoch {epochs[0]})" if len(epochs) == 1 else f" (epochs {epochs[0]} to {epochs[-1]})"
    )
    return (
        f"Tested were the {found.told(lambda run: _tested(run.optimiser))}{seen}; no run evaluated a test clip before "
        "its weights were chosen."
    )


def _tested(optimiser: OptimiserConfig) -> str:
    which = f"exponentially averaged weights (decay {optimiser.ema:g})" if optimiser.ema else "weights"
    return f"{which} {CHOICES[optimiser.choose]}"


def _fold(found: StudySettings) -> str:
    """Which fold a single run was tested on; a study's runs of all folds are told of together."""
    fold = found.told(lambda run: run.data.fold or "none")
    return f"The test clips were those of fold {fold}." if fold != "none" else ""


def _lost(found: StudySettings) -> str:
    """Which share of frames was lost on its way to the models."""
    share = found.told(lambda run: f"{100 * run.data.lost_frames:g} %")
    if share == "0 %":
        return ""
    return (
        f"Of the frames {share} were lost, others in each epoch of training, the same of a clip in every evaluation; "
        "cells that take value, mask and gap were told which, others saw the last frame again."
    )


def _robustness(found: StudySettings) -> str:
    noise = found.told(lambda run: _list(run.data.test_snr_db, "dB"))
    shifts = found.told(lambda run: _list(run.data.test_shift_ms, "ms"))
    parts = [f"with synthetic noise at signal-to-noise ratios of {noise}"] if noise != "none" else []
    parts += [f"moved by {shifts}, later where positive"] if shifts != "none" else []
    lost = found.told(lambda run: _list(tuple(100 * share for share in run.data.test_lost_frames), "%"))
    parts += [f"with {lost} of their frames lost"] if lost != "none" else []
    return f"The test clips were evaluated again {listed(parts)}, the same audio for every model." if parts else ""


def _list(values: tuple[float, ...], unit: str) -> str:
    return f"{listed(f'{value:g}' for value in values)} {unit}".replace("-", "−") if values else "none"


def _further(found: StudySettings) -> str:
    """Settings that came after these sentences, where they are not at their default."""
    usual = _settings(RunConfig(corpus=CorpusRef(name="", checksum="")))
    texts = []
    for name in usual.keys() - {f"{section}.{name}" for section, names in TOLD.items() for name in names.split()}:
        told = found.told(lambda run: _settings(run)[name])  # noqa: B023 (told at once)
        if told != usual[name]:
            texts.append(f"{name} {told}")
    return f"Further settings: {', '.join(sorted(texts))}." if texts else ""


def _settings(run: RunConfig) -> dict[str, str]:
    sections = {name: getattr(run, name) for name in run.__struct_fields__}
    return {
        f"{section}.{name}": text_of(value)
        for section, values in sections.items()
        if isinstance(values, msgspec.Struct) and section != "corpus"
        for name, value in msgspec.structs.asdict(values).items()
    }
