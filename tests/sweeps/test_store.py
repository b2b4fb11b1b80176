"""What is saved comes back, and a file of the final name is always whole."""

import json

import numpy as np
import pytest
import xarray as xr

from sweeps.store import datasets, places
from sweeps.system import writing


@pytest.fixture
def dataset():
    rng = np.random.default_rng(1)
    return xr.Dataset(
        {
            "reward": (("algorithm", "noise", "seed"), rng.random((2, 3, 5), dtype=np.float32)),
            "alpha": (("algorithm", "seed"), np.full((2, 5), np.nan, dtype=np.float32)),
        },
        {"algorithm": ["sdpo", "advantage_weighted"], "noise": [0.0, 0.05, 0.5], "seed": range(5)},
        {"about": "a test"},
    )


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_data_set_comes_back_the_same(tmp_path, dataset):
    path = datasets.save(tmp_path, "algorithms", dataset)
    assert path == tmp_path / "data" / "algorithms.nc"
    loaded = datasets.load(tmp_path, "algorithms")
    xr.testing.assert_equal(loaded, dataset)
    assert loaded.attrs == dataset.attrs
    assert loaded["reward"].dtype == np.float32
    assert list(loaded["algorithm"].values) == ["sdpo", "advantage_weighted"]
    assert files(tmp_path) == ["algorithms.nc"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_was_loaded_can_be_saved_again(tmp_path, dataset):
    datasets.save(tmp_path, "first", dataset)
    datasets.save(tmp_path, "second", datasets.load(tmp_path, "first"))
    xr.testing.assert_equal(datasets.load(tmp_path, "second"), dataset)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_previous_file_and_no_rubbish(tmp_path, error):
    path = writing.write_text(tmp_path / "table.csv", "old\n")

    def half_written(temporary):
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"
        temporary.write_text("ne")
        assert path.read_text() == "old\n"
        raise error

    with pytest.raises(error):
        datasets.write_atomically(path, half_written)
    assert path.read_text() == "old\n"
    assert files(tmp_path) == ["table.csv"]


def test_a_value_that_is_not_json_leaves_the_previous_manifest(tmp_path):
    datasets.write_manifest(tmp_path, {"seeds": 5})
    with pytest.raises(ValueError):
        datasets.write_manifest(tmp_path, {"seeds": float("nan")})
    assert datasets.read_manifest(tmp_path) == {"seeds": 5}


def test_text_has_unix_line_ends_and_utf8(tmp_path):
    path = writing.write_json(tmp_path / "a.json", {"σ": [1, "é"]})
    raw = path.read_bytes()
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    assert json.loads(raw.decode("utf-8")) == {"σ": [1, "é"]}


def test_missing_results_say_how_to_make_them(tmp_path):
    for read in (
        lambda: datasets.load(tmp_path, "noise"),
        lambda: datasets.read_manifest(tmp_path),
    ):
        with pytest.raises(datasets.MissingResults, match="sweeps reproduce --out"):
            read()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.5, 0.7, 0.95])
def test_a_cut_file_is_reported_by_name(tmp_path, dataset, share):
    path = datasets.save(tmp_path, "noise", dataset)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(ValueError, match=r"noise\.nc: not a readable netCDF file"):
        datasets.load(tmp_path, "noise")


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_a_bad_manifest_is_reported_by_name(tmp_path, text):
    (tmp_path / places.MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        datasets.read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["", ".hidden", "../noise", "a/b"])
def test_names_stay_inside_the_data_folder(tmp_path, name):
    with pytest.raises(ValueError, match="name"):
        datasets.data_path(tmp_path, name)


def test_results_read_each_set_once_and_list_what_is_there(tmp_path, dataset):
    datasets.save(tmp_path, "noise", dataset)
    datasets.save(tmp_path, "hybrid", dataset)
    datasets.write_manifest(tmp_path, {"seeds": 5})
    (tmp_path / "data" / ".noise.x.partial.nc").write_bytes(b"")
    results = datasets.Results(tmp_path)
    assert list(results) == ["hybrid", "noise"]
    assert len(results) == 2
    assert "noise" in results
    assert "algorithms" not in results
    assert results["noise"] is results["noise"]
    assert results.manifest == {"seeds": 5}
    with pytest.raises(datasets.MissingResults, match=r"algorithms\.nc"):
        results["algorithms"]


def test_cells_select_by_label_and_put_the_seed_last(dataset):
    reward = dataset["reward"].transpose("seed", "noise", "algorithm")
    one = datasets.cells(reward, algorithm="advantage_weighted", noise=0.05)
    np.testing.assert_array_equal(one, dataset["reward"].values[1, 1])
    assert one.dtype == np.float64
    turned = datasets.cells(reward, noise=[0.5, 0.0], algorithm=["advantage_weighted", "sdpo"])
    np.testing.assert_array_equal(turned, dataset["reward"].values[::-1, [2, 0]].swapaxes(0, 1))
    assert datasets.cells(reward, algorithm="sdpo").shape == (3, 5)


def test_cells_find_levels_stored_as_float32_and_no_others(dataset):
    stored = dataset.assign_coords(noise=dataset["noise"].astype(np.float32))["reward"]
    np.testing.assert_array_equal(
        datasets.cells(stored, algorithm="sdpo", noise=0.05), dataset["reward"].values[0, 1]
    )
    with pytest.raises(KeyError, match="noise"):
        datasets.cells(stored, algorithm="sdpo", noise=0.06)
    with pytest.raises(KeyError, match="sdpo, advantage_weighted"):
        datasets.cells(stored, algorithm="hybrid")
    with pytest.raises(KeyError, match="no such axis"):
        datasets.cells(stored, oracle="binary")
