"""Several folders as one data set, against one sweep of all their runs."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import sweeps

BASE = {"length": 2, "vocab_size": 3, "rollouts": 3, "steps": 5, "final_window": 2}
PAIR = {"kl_weight": [0.1, 0.2], "bias": [0.0, 0.1]}


def trained(path, axes, **base):
    sweeps.run(axes, path, base=BASE | base)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Of every seed and noise, and parts of it in several folders."""
    root = tmp_path_factory.mktemp("folders")
    common = {"algorithm": ["reinforce"], "pair": PAIR}
    return {
        "whole": trained(root / "whole", common | {"noise": [0.0, 0.2], "seed": range(6)}),
        "low": trained(root / "low", common | {"noise": [0.0, 0.2], "seed": range(4)}),
        "high": trained(root / "high", common | {"noise": [0.0, 0.2], "seed": range(3, 6)}),
        "quiet": trained(root / "quiet", common | {"seed": range(6)}, noise=0.0),
        "loud": trained(root / "loud", common | {"seed": range(6)}, noise=0.2),
    }


@pytest.mark.parametrize("names", [("low", "high"), ("high", "low"), ("quiet", "loud"),
                                   ("whole",), ("whole", "low"), ("quiet", "whole")])  # fmt: skip
def test_folders_join_to_what_one_sweep_of_all_of_them_is(folders, names):
    whole = sweeps.open(folders["whole"])
    joined = sweeps.join([folders[name] for name in names])
    labels = {name: whole[name].values for name in ("noise", "algorithm", "seed")}
    joined = joined.sel(labels).transpose(*whole.dims)
    xr.testing.assert_equal(joined, whole)
    assert joined.finished.all()
    for name in whole.data_vars:
        assert joined[name].dtype == whole[name].dtype
        assert joined[name].attrs == whole[name].attrs
    attributes = {**whole.attrs}
    assert {k: v for k, v in joined.attrs.items() if k in attributes and k != "sweep"} == {
        k: v for k, v in attributes.items() if k not in ("sweep", "block_width")
    }


def test_what_no_folder_has_is_unfinished(folders):
    joined = sweeps.join([folders["quiet"], folders["high"]])
    there = joined.finished.sel(noise=0.2).any("pair").values.reshape(-1)
    np.testing.assert_array_equal(there, [False] * 3 + [True] * 3)
    missing = joined.sel(noise=0.2, seed=0)
    assert missing.reward.isnull().all()
    assert (missing.finite_steps == -1).all()


def test_folders_that_do_not_fit_are_refused(folders, tmp_path):
    other = {"kl_weight": [0.1, 0.3], "bias": [0.0, 0.1]}
    axes = {"algorithm": ["reinforce"], "pair": other, "seed": range(2), "noise": [0.0]}
    unlike = trained(tmp_path / "unlike", axes)
    with pytest.raises(ValueError, match="unlike: other axes along pair; allowed: the same in all"):
        sweeps.join([folders["whole"], unlike])
    ppo = trained(tmp_path / "ppo", {"seed": range(2), "clip": [0.1, 0.2]}, algorithm="ppo")
    with pytest.raises(ValueError, match=r"; allowed: one value for all$"):
        sweeps.join([ppo, folders["whole"]])


@pytest.mark.parametrize("value", ["results", [], 3, None, b"results"])
def test_what_is_no_list_of_folders_is_refused(value):
    with pytest.raises(ValueError, match=r"^directories: .*; allowed: "):
        sweeps.join(value)
