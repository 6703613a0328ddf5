"""What hurts: predictions that are not those of the file, or a damaged file that is read as if it were whole."""

from __future__ import annotations

import pickle
import tracemalloc
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.lib import format as npy

from cello.files import DamagedFileError
from cello.study.predictions import Predictions

WANTED = ("target", "prediction")


def write(path: Path, compressed: bool = True, **content: np.ndarray) -> dict[str, np.ndarray]:
    (np.savez_compressed if compressed else np.savez)(path, **content)  # type: ignore[arg-type]
    return content


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=arrays.arrays(
        st.sampled_from([np.uint16, np.int64, np.float16, np.bool_]),
        arrays.array_shapes(min_dims=1, max_dims=2, min_side=0),
    ),
    compressed=st.booleans(),
)
def test_every_array_is_as_numpy_reads_it(tmp_path: Path, content: np.ndarray, compressed: bool) -> None:
    path = tmp_path / "predictions.npz"
    write(path, compressed, target=content, prediction=content[::-1], other=np.arange(3))
    found = Predictions().read(path, WANTED)
    with np.load(path) as plain:
        for name in WANTED:
            assert (found[name].dtype, found[name].shape) == (plain[name].dtype, plain[name].shape)
            assert found[name].tobytes() == plain[name].tobytes()
    assert list(found) == list(WANTED)


def test_equal_targets_are_one_object_and_others_are_not(tmp_path: Path) -> None:
    reader = Predictions()
    found = []
    for number, last in enumerate((2, 2, 3)):
        path = tmp_path / f"{number}.npz"
        write(path, target=np.array([0, 1, last]), prediction=np.array([number, 0, 0]))
        found.append(reader.read(path, WANTED))
    assert found[0]["target"] is found[1]["target"]
    assert [list(each["target"]) for each in found] == [[0, 1, 2], [0, 1, 2], [0, 1, 3]]
    assert [list(each["prediction"]) for each in found] == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]


def test_what_numpy_does_not_write_itself_numpy_reads(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    turned = np.asfortranarray(np.arange(6).reshape(2, 3))
    write(path, target=turned, prediction=np.arange(2))
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"from elsewhere"
    found = Predictions().read(path, WANTED)
    assert found["target"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["prediction"].tolist() == [0, 1]


def test_a_file_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    write(path, target=np.arange(50), prediction=np.arange(50))
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(DamagedFileError):
            Predictions().read(path, WANTED)


def test_a_changed_byte_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    content = write(path, target=np.arange(50), prediction=np.arange(50) % 7)
    whole, errors = path.read_bytes(), 0
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            found = Predictions().read(path, WANTED)
        except DamagedFileError:
            errors += 1
            continue
        for name in WANTED:
            assert np.array_equal(found[name], content[name]), f"byte {place}"
    assert errors > len(whole) / 6


def test_an_array_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    write(path, target=np.arange(3))
    with pytest.raises(DamagedFileError, match="it holds no 'prediction'"):
        Predictions().read(path, WANTED)


def packed(path: Path, shape: tuple[int, ...], content: bytes, descr: str = "|u1", repeat: int = 1) -> None:
    """An archive whose only array has a header of its own choice."""
    header = BytesIO()
    npy.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("target.npy", "w", force_zip64=True) as file,
    ):
        file.write(header.getvalue())
        for _ in range(repeat):
            file.write(content)


def test_more_than_the_test_clips_need_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    packed(path, (100_000_000,), bytes(1_000_000), repeat=100)
    tracemalloc.start()
    try:
        for clips in (10, 10**18):  # whatever a foreign manifest says
            with pytest.raises(DamagedFileError, match=r"more than the \d+"):
                Predictions().read(path, ["target"], clips)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_stream_that_goes_on_beyond_the_size_it_states_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    packed(path, (3,), bytes(30_000_000))
    text = bytearray(path.read_bytes())
    place = text.rindex(b"PK\1\2")
    text[place + 24 : place + 28] = (131).to_bytes(4, "little")
    path.write_bytes(text)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFileError, match="'target' is not what was written"):
            Predictions().read(path, ["target"], 10)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("shape", "descr", "reason"),
    [
        ((10**12,), "<u2", "its header says"),
        ((2**63, 2), "<u2", "is not what was written"),
        ((-1,), "|u1", "is not what was written"),
        ((1,), "|O", "object in place of numbers"),
        ((1,), "<U9", "in place of numbers"),
        ((1,), "V900000000", "in place of numbers"),
        ((), "|u1", "its header says"),
    ],
)
def test_an_array_whose_header_lies_or_holds_no_numbers_is_refused(
    tmp_path: Path, shape: tuple[int, ...], descr: str, reason: str
) -> None:
    packed(tmp_path / "predictions.npz", shape, b"", descr)
    with pytest.raises(DamagedFileError, match=reason):
        Predictions().read(tmp_path / "predictions.npz", ["target"], 10)


def test_archives_of_many_files_or_of_other_packing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    np.savez(path, **{f"a{k}": np.arange(3) for k in range(9)})
    with pytest.raises(DamagedFileError, match="it holds 9 files, more than the 8 arrays that may be"):
        Predictions().read(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("target.npy", b"x" * 1000)
    with pytest.raises(DamagedFileError, match=r"its 'target\.npy' is packed otherwise than NumPy packs"):
        Predictions().read(path, ["target"])
    for content in (b"", b"PK\5\6" + bytes(18), b"PK\3\4", pickle.dumps([1, 2])):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"it holds no 'target'|no archive of arrays"):
            Predictions().read(path, ["target"])
