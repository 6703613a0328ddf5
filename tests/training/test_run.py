"""What hurts: a resumed run that differs, a test list that leaks, a result that cannot be told from another's."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from cello.audio.augment import AugmentConfig
from cello.audio.corpus import Corpus
from cello.cells.definition import cell
from cello.cells.functions import tanh
from cello.cells.load import load_cell
from cello.errors import BackendError, CellError, ConfigError, CorpusError, DivergenceError, ModelError, TrainingError
from cello.features.config import FeatureConfig
from cello.files import seal, unseal
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig, resolve
from cello.native.bf16 import missing_bf16
from cello.native.build import compiler
from cello.training import data
from cello.training.checkpoint import DamagedCheckpointError, load_checkpoint, save_checkpoint
from cello.training.config import CorpusRef, DataConfig, OptimiserConfig, RunConfig
from cello.training.execution import ExecutionConfig
from cello.training.result import NOT_EVALUATED, Epoch, RunResult
from cello.training.run import train, trial


def config(**changes: object) -> RunConfig:
    base = RunConfig(
        corpus=CorpusRef(name="tones", checksum="0" * 64),
        features=FeatureConfig(window_ms=80),
        augment=AugmentConfig(shift_ms=20, noise_share=0.5, time_masks=1, band_masks=1, mixup=0.2),
        model=ModelConfig(cell="gru", hidden=8, dropout=0.2, pooling="attention"),
        optimiser=OptimiserConfig(epochs=4, batch=8, ema=0.9, learning_rate=5e-3, clip_norm=1.0, label_smoothing=0.1),
    )
    return msgspec.structs.replace(base, **changes)


class StopError(Exception):
    """A kill at the end of an epoch."""


def untimed(result: RunResult) -> dict[str, object]:
    record = msgspec.to_builtins(result)
    history = [{k: v for k, v in e.items() if not k.endswith("_seconds")} for e in record.pop("history")]
    return {"history": history} | {k: v for k, v in record.items() if "second" not in k}


def test_an_epochs_times_say_what_it_waited_for(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = data.RunData.augmented

    def slow(self: data.RunData, epoch: int) -> data.Frames:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        return real(self, epoch)

    monkeypatch.setattr(data.RunData, "augmented", slow)
    asked = config(optimiser=OptimiserConfig(epochs=2, batch=8))
    result = train(asked, tone_corpus, tmp_path / "run", cache=tmp_path)
    for epoch in result.history:
        assert epoch.train_cpu_seconds < 0.2 <= epoch.data_seconds
        phases = epoch.train_seconds + epoch.data_seconds + epoch.validation_seconds
        assert phases <= epoch.epoch_seconds == pytest.approx(phases, abs=0.05)
        assert epoch.epoch_cpu_seconds is not None
        assert epoch.epoch_cpu_seconds >= 0.2 + epoch.train_cpu_seconds
    last = result.history[-1]  # the median over the epochs after the first
    assert (result.seconds_per_epoch, result.epoch_seconds) == (last.train_cpu_seconds, last.epoch_seconds)
    assert result.epoch_cpu_seconds == last.epoch_cpu_seconds
    assert result.epoch_clips_per_second == pytest.approx(result.train.clips / last.epoch_seconds)
    stored = msgspec.json.decode((tmp_path / "run" / "result.json").read_bytes())
    assert stored["epoch_seconds"] == result.epoch_seconds


def test_a_run_stopped_after_any_epoch_and_resumed_gives_the_same_bits(tone_corpus: Corpus, tmp_path: Path) -> None:
    whole = train(config(), tone_corpus, tmp_path / "whole", cache=tmp_path)
    for stop in (1, 2, 3, 4):
        folder = tmp_path / f"stopped{stop}"

        def interrupt(record: Epoch, stop: int = stop) -> None:
            if record.epoch == stop:
                raise StopError

        with pytest.raises(StopError):
            train(config(), tone_corpus, folder, cache=tmp_path, on_epoch=interrupt)
        resumed = train(config(), tone_corpus, folder, cache=tmp_path)
        assert untimed(resumed) == untimed(whole)
        for name in ("model.safetensors", "predictions.npz"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_run_is_returned_and_not_trained_again(tone_corpus: Corpus, tmp_path: Path) -> None:
    first = train(config(), tone_corpus, tmp_path / "run", cache=tmp_path)
    seen: list[Epoch] = []
    assert train(config(), tone_corpus, tmp_path / "run", cache=tmp_path, on_epoch=seen.append) == first
    assert seen == []
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_another_seed_gives_another_run(tone_corpus: Corpus, tmp_path: Path) -> None:
    one, two = (train(config(seed=s), tone_corpus, tmp_path / str(s), cache=tmp_path) for s in (1, 2))
    assert one.run != two.run
    assert one.history[0].train_loss != two.history[0].train_loss


def test_the_test_clips_have_no_say_in_training_or_choice(tone_corpus: Corpus, tmp_path: Path) -> None:
    first = train(config(), tone_corpus, tmp_path / "a", cache=tmp_path / "a")
    for clip in tone_corpus.indices("test"):
        start = tone_corpus.starts[clip]
        tone_corpus.sound[start : start + 4000] = np.random.default_rng(0).integers(-9999, 9999, 4000)
    second = train(config(), tone_corpus, tmp_path / "b", cache=tmp_path / "b")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    assert (first.train, first.validation) == (second.train, second.validation)
    assert first.test != second.test


def test_a_trial_never_hears_the_test_clips_and_is_else_the_same_run(tone_corpus: Corpus, tmp_path: Path) -> None:
    asked = config(data=DataConfig(test_snr_db=(10.0,)))
    whole = train(asked, tone_corpus, tmp_path / "whole", cache=tmp_path)
    result = trial(asked, tone_corpus, tmp_path / "trial", cache=tmp_path)
    assert (result.test, result.confusion, result.conditions) == (NOT_EVALUATED, (), ())
    assert not (tmp_path / "trial" / "predictions.npz").exists()
    tested = {"test", "confusion", "conditions"}
    same = [{k: v for k, v in untimed(r).items() if k not in tested} for r in (whole, result)]
    assert same[0] == same[1]
    assert trial(asked, tone_corpus, tmp_path / "trial", cache=tmp_path) == result
    with pytest.raises(TrainingError, match=r"holds run \w+ as a trial, trained without evaluating the test set"):
        train(asked, tone_corpus, tmp_path / "trial", cache=tmp_path)


def test_tones_are_learnt_and_every_clip_is_counted(tone_corpus: Corpus, tmp_path: Path) -> None:
    easy = config(
        augment=AugmentConfig(), optimiser=OptimiserConfig(epochs=15, batch=8, learning_rate=1e-2, choose="best")
    )
    result = train(easy, tone_corpus, tmp_path / "run", cache=tmp_path)
    assert (result.train.clips, result.validation.clips, result.test.clips) == (24, 9, 9)
    assert result.test.accuracy >= 0.75
    assert np.trace(np.array(result.confusion)) == round(9 * result.test.accuracy)
    best = max(e.validation_accuracy for e in result.history)
    assert result.history[result.chosen_epoch - 1].validation_accuracy == best == result.validation.accuracy
    kept = np.load(tmp_path / "run" / "predictions.npz")
    assert (kept["target"] == tone_corpus.targets[tone_corpus.indices("test")]).all()
    assert msgspec.json.decode((tmp_path / "run" / "result.json").read_bytes(), type=RunResult) == result


def test_training_leaves_torchs_threads_and_random_numbers_as_they_were(tone_corpus: Corpus, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    before = torch.get_rng_state()
    try:
        train(config(), tone_corpus, tmp_path / "run", cache=tmp_path)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        torch.set_num_threads(1)


def test_a_corpus_that_is_not_the_configs_is_refused(tone_corpus: Corpus, tmp_path: Path) -> None:
    other = config(corpus=CorpusRef(name="tones", checksum="f" * 64))
    with pytest.raises(TrainingError, match=r"'tones' with checksum ffffffffffff…, but the corpus given has 0000"):
        train(other, tone_corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("compiled_quickly")
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_rate(tone_corpus: Corpus, tmp_path: Path) -> None:
    wild = config(
        model=ModelConfig(cell="rnn-relu", hidden=8),
        optimiser=OptimiserConfig(name="sgd", epochs=3, batch=8, learning_rate=1e18, warmup=0.0),
    )
    with pytest.raises(DivergenceError, match=r"loss became (nan|inf) in epoch 1 at learning rate 1e\+18; lower"):
        train(wild, tone_corpus, tmp_path / "run", cache=tmp_path)


def test_weights_that_are_no_numbers_after_the_last_step_are_no_result(tone_corpus: Corpus, tmp_path: Path) -> None:
    wild = config(
        model=ModelConfig(cell="rnn-relu", hidden=8),
        augment=AugmentConfig(),
        optimiser=OptimiserConfig(name="sgd", epochs=1, batch=1000, learning_rate=1e30),
    )
    with pytest.raises(DivergenceError, match=r"validation loss became (nan|inf) in epoch 1 at .* 1e\+30; lower"):
        train(wild, tone_corpus, tmp_path / "run", cache=tmp_path)
    assert not (tmp_path / "run" / "result.json").exists()


CELLS = """
from cello import cell, log, tanh, where

@cell
def nan_at_first(x, h, W, U):
    return tanh(W @ x + U @ h) * log(h - 1)

@cell
def no_gradient(x, h, W, U):
    return where(W @ x + U @ h > 0, 1, 0)
"""


def plain(tmp_path: Path, name: str, **changes: object) -> RunConfig:
    """A run without augmentation of a cell in a file of its own."""
    path = tmp_path / "mine.py"
    path.write_text(CELLS)
    model = resolve(ModelConfig(cell=f"{path}:{name}" if name.islower() and "_" in name else name, hidden=8))
    return config(model=model, augment=AugmentConfig(), **changes)


@pytest.mark.usefixtures("compiled_quickly")
def test_equations_that_give_nan_at_once_are_blamed_and_not_the_learning_rate(
    tone_corpus: Corpus, tmp_path: Path
) -> None:
    message = r"training loss is nan before any weight has changed, .*equations of cell '.*nan_at_first' for log"
    with pytest.raises(DivergenceError, match=message):
        train(plain(tmp_path, "nan_at_first"), tone_corpus, tmp_path / "run", cache=tmp_path)


def test_a_clip_without_finite_frames_is_named(tone_corpus: Corpus, tmp_path: Path) -> None:
    corpus = Corpus(tone_corpus.manifest, tone_corpus.sound.astype(np.float32) / 32768)
    clip = int(corpus.indices("train")[5])
    corpus.sound[corpus.starts[clip] + 100] = np.nan
    name = corpus.manifest.clips[clip].name
    with pytest.raises(DivergenceError, match=rf"because the frames of clip '{name}' are not finite; remove that"):
        train(plain(tmp_path, "gru"), corpus, tmp_path / "run", cache=tmp_path)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_cell_without_a_gradient_is_refused_and_not_trained_in_vain(tone_corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no weight of cell '.*no_gradient' got a gradient in the first epoch"):
        train(plain(tmp_path, "no_gradient"), tone_corpus, tmp_path / "run", cache=tmp_path)


@pytest.mark.parametrize(
    ("cell", "limit", "most"), [("gru", "FRAMES_AT_ONCE", 200), ("retention", "MATRIX_ELEMENTS_AT_ONCE", 200 * 16)]
)
def test_a_batch_in_parts_trains_like_a_whole_one(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, limit: str, most: int
) -> None:
    asked = plain(tmp_path, cell, features=FeatureConfig(window_ms=40))
    whole = train(asked, tone_corpus, tmp_path / "whole", cache=tmp_path)
    monkeypatch.setattr(data, limit, most)
    parts = train(asked, tone_corpus, tmp_path / "parts", cache=tmp_path)
    for one, other in zip(whole.history, parts.history, strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=1e-4)
        assert other.validation_loss == pytest.approx(one.validation_loss, rel=1e-4)


def test_a_folder_of_another_run_is_neither_overwritten_nor_taken_for_this_one(
    tone_corpus: Corpus, tmp_path: Path
) -> None:
    def stop(record: Epoch) -> None:
        raise StopError

    short = OptimiserConfig(epochs=1, batch=8)
    with pytest.raises(StopError):
        train(config(seed=1), tone_corpus, tmp_path / "begun", cache=tmp_path, on_epoch=stop)
    train(config(seed=1, optimiser=short), tone_corpus, tmp_path / "finished", cache=tmp_path)
    for folder in (tmp_path / "begun", tmp_path / "finished"):
        before = {path: path.read_bytes() for path in folder.iterdir()}
        message = r"holds run [0-9a-f]{16}, in which .*\bseed was 1, is 2; choose another folder"
        with pytest.raises(TrainingError, match=message):
            train(config(seed=2, optimiser=short), tone_corpus, folder, cache=tmp_path)
        assert before == {path: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "bit", "other tensors", "unsealed"])
def test_a_damaged_checkpoint_is_named_kept_and_the_run_starts_afresh_to_the_same_bits(
    tone_corpus: Corpus, tmp_path: Path, damage: str
) -> None:
    def stop(record: Epoch) -> None:
        raise StopError

    short = config(optimiser=OptimiserConfig(epochs=2, batch=8))
    whole = train(short, tone_corpus, tmp_path / "whole", cache=tmp_path / "cache")
    with pytest.raises(StopError):
        train(short, tone_corpus, tmp_path / "run", cache=tmp_path / "cache", on_epoch=stop)
    path = tmp_path / "run" / "checkpoint.pt"
    text = path.read_bytes()
    if damage == "other tensors":
        save_checkpoint(path, short.id, {"model": {}, "optimiser": {}, "average": {}, "best": 3, "history": [1]})
    else:
        place = text.index(b"data/0") + 200
        bit = text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]
        damaged = {"cut": text[:-40], "empty": b"", "zeros": bytes(len(text)), "bit": bit, "unsealed": unseal(text)}
        path.write_bytes(damaged[damage])
    before = path.read_bytes()
    with pytest.warns(UserWarning, match=r"checkpoint\.pt is damaged: it.*; run \w+ starts afresh, and the file is"):
        again = train(short, tone_corpus, tmp_path / "run", cache=tmp_path / "cache")
    assert untimed(again) == untimed(whole)
    for name in ("model.safetensors", "predictions.npz"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert path.with_name("checkpoint.pt.unusable").read_bytes() == before


def test_a_checkpoint_without_a_checksum_is_read_as_before_and_a_newer_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"format": 1, "run": "r", "spent": 3.0}, path)
    assert load_checkpoint(path, "r") == {"format": 1, "run": "r", "spent": 3.0}
    with pytest.raises(TrainingError, match=r"checkpoint\.pt holds run 'r', but run 's' is to be resumed; move that"):
        load_checkpoint(path, "s")
    torch.save({"format": 3, "run": "r"}, path)
    path.write_bytes(seal(path.read_bytes()))
    with pytest.raises(TrainingError, match=r"has format 3, and this is Cello .*, which knows formats up to 2; inst"):
        load_checkpoint(path, "r")


class Hostile:
    """Runs a command where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.place}",)


def test_a_hostile_checkpoint_runs_nothing_and_a_packed_one_is_not_unpacked(tmp_path: Path) -> None:
    path, touched = tmp_path / "checkpoint.pt", tmp_path / "touched"
    torch.save({"format": 2, "run": "r", "x": Hostile(touched)}, path)
    path.write_bytes(seal(path.read_bytes()))
    with pytest.raises(DamagedCheckpointError, match="not what was written"):
        load_checkpoint(path, "r")
    torch.save({"format": 1, "run": "r", "x": torch.zeros(100_000)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(DamagedCheckpointError, match="not what was written"):
        load_checkpoint(path, "r")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamagedCheckpointError, match="not a regular file"):
        load_checkpoint(path, "r")
    assert not touched.exists()


def test_a_cell_file_needs_no_fingerprint_from_its_user(tone_corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from cello import cell, tanh\n@cell\ndef mine(x, h, W, U):\n    return tanh(W @ x + U @ h)\n")
    result = train(
        config(model=ModelConfig(cell=f"{path}:mine", hidden=4)), tone_corpus, tmp_path / "run", cache=tmp_path
    )
    assert result.config.model.equations == load_cell(f"{path}:mine").graph.fingerprint()
    assert result.run == result.config.id


@pytest.mark.usefixtures("compiled_quickly")
def test_a_cell_object_is_trained_and_its_folder_needs_no_other_file(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @cell
    def leaky(x: Any, h: Any, W: Any, U: Any) -> Any:
        return 0.5 * h + 0.5 * tanh(W @ x + U @ h)

    asked = config(model=ModelConfig(cell=leaky, hidden=4), optimiser=OptimiserConfig(epochs=2, batch=16))
    assert (asked.model.cell, asked.model.equations) == ("own:leaky", leaky.graph.fingerprint())
    folder = tmp_path / "run"

    def stop(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(asked, tone_corpus, folder, cache=tmp_path, on_epoch=stop)
    monkeypatch.setattr("cello.cells.load._KNOWN", {})  # as in another session, which never saw the object
    with pytest.raises(CellError, match=r"'own:leaky' was given as an object in another session.*FILE\.py:leaky"):
        train(asked, tone_corpus, tmp_path / "elsewhere", cache=tmp_path)
    resumed = train(asked, tone_corpus, folder, cache=tmp_path)
    assert len(resumed.history) == 2
    whole = train(asked, tone_corpus, tmp_path / "whole", cache=tmp_path)
    assert whole.test == resumed.test


def test_a_corpus_without_test_clips_is_refused(tone_corpus: Corpus, tmp_path: Path) -> None:
    kept = tuple(c for c in tone_corpus.manifest.clips if c.split != "test")
    corpus = Corpus(msgspec.structs.replace(tone_corpus.manifest, clips=kept), tone_corpus.sound)
    with pytest.raises(CorpusError, match=r"'tones' has no test clips.*testing_list\.txt"):
        train(config(), corpus, tmp_path / "run", cache=tmp_path)


def test_a_clip_that_speed_leaves_shorter_than_a_window_stops_no_run(tone_corpus: Corpus, tmp_path: Path) -> None:
    shortest = 1000 * int(tone_corpus.lengths.min()) / 16_000
    close = config(
        augment=AugmentConfig(speed=0.3, shift_ms=20, noise_share=0.5), features=FeatureConfig(window_ms=shortest - 5)
    )
    assert len(train(close, tone_corpus, tmp_path / "run", cache=tmp_path).history) == 4


def test_how_a_run_is_computed_is_recorded_and_no_part_of_its_id(tone_corpus: Corpus, tmp_path: Path) -> None:
    asked = config(optimiser=OptimiserConfig(epochs=1, batch=16))
    plain = train(
        asked, tone_corpus, tmp_path / "plain", cache=tmp_path, execution=ExecutionConfig(backend="plain", threads=2)
    )
    auto = train(asked, tone_corpus, tmp_path / "auto", cache=tmp_path)
    assert plain.run == auto.run == asked.id
    assert (plain.backend, plain.device, plain.hardware["threads"]) == ("plain", "cpu", "2")
    assert (auto.backend, auto.hardware["threads"]) == ("c" if compiler() else "plain", "1")
    assert abs(plain.validation.loss - auto.validation.loss) < 1e-3
    with pytest.raises(BackendError, match="'rust'"):
        train(asked, tone_corpus, tmp_path / "rust", cache=tmp_path, execution=ExecutionConfig(backend="rust"))
    with pytest.raises(ConfigError, match=r"execution\.threads=0 is invalid: it must be at least 1"):
        ExecutionConfig(threads=0)


@pytest.mark.wants("cc")
def test_a_run_in_bf16_says_so_and_is_not_the_one_in_float32(tone_corpus: Corpus, tmp_path: Path) -> None:
    if (reason := missing_bf16()) is not None:
        pytest.skip(f"AVX512-BF16, {reason}")
    asked, execution = config(optimiser=OptimiserConfig(epochs=1, batch=16)), ExecutionConfig(precision="bf16")
    whole = train(asked, tone_corpus, tmp_path / "float32", cache=tmp_path)
    rounded = train(asked, tone_corpus, tmp_path / "bf16", cache=tmp_path, execution=execution)
    assert (whole.precision, rounded.precision, rounded.backend) == ("float32", "bf16", "c")
    assert whole.run == rounded.run
    assert 0 < abs(whole.validation.loss - rounded.validation.loss) < 1e-2
    layer = config(model=ModelConfig(cell="torch:gru", hidden=8))
    with pytest.raises(
        ModelError, match=r"^model\.cell=torch:gru has no products in bf16: PyTorch computes it in float3"
    ):
        train(layer, tone_corpus, tmp_path / "torch", cache=tmp_path, execution=execution)


def test_a_back_end_that_an_older_study_states_is_obeyed_unless_execution_says_otherwise() -> None:
    old = ModelConfig(hidden=4, backend="plain")
    assert Classifier(old, 3, 2).encoder.backend == "plain"
    assert Classifier(old, 3, 2, backend="c").encoder.backend == "c"
