"""What a figure of a sweep shows: its points against scipy, names that are refused, what fits."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats

import sweeps
from sweeps.__main__ import main
from sweeps.report import best, plots, summary, views
from sweeps.report.views import View

RESULTS = Path(__file__).parents[2] / "results"
RATES = [0.01, 0.1, 1.0, 10.0]


def dataset(dims, coordinates, shape, step=5):
    """Runs of random numbers, with a metric's final value and its curve."""
    rng = np.random.default_rng(0)
    curve = rng.normal(size=(*shape, step))
    names = {"long_name": "mean reward of the rollouts", "units": "1"}
    return xr.Dataset(
        {
            "reward": (dims, curve[..., -1].astype(np.float32), names),
            "reward_mean": (dims, curve.mean(-1).astype(np.float32), names),
            "reward_curve": ((*dims, "step"), curve.astype(np.float32), names),
            "finite_steps": (dims, np.full(shape, 40, np.int32)),
        },
        {**coordinates, "step": np.arange(step) * 10},
        {"steps": 40},
    )


@pytest.fixture
def data():
    coordinates = {
        "algorithm": ["sdpo", "rloo"], "learning_rate": RATES, "oracle": ["binary", "ordinal"],
        "seed": np.arange(12),
    }  # fmt: skip
    found = dataset(tuple(coordinates), coordinates, (2, 4, 2, 12))
    # The largest rate is the best of SDPO, the smallest that of RLOO.
    found["reward"] += xr.DataArray([1, -1], dims="algorithm") * xr.DataArray(
        [0.0, 5.0, 10.0, 15.0], dims="learning_rate"
    )
    return found


@pytest.fixture
def zipped():
    coordinates = {
        "kl_weight": [0.0, 0.1], "seed": np.arange(12), "algorithm": ("who", ["sdpo", "rloo"]),
        "learning_rate": ("who", [0.02, 1.28]),
    }  # fmt: skip
    return dataset(("kl_weight", "seed", "who"), coordinates, (2, 12, 2))


def test_points_are_means_over_seeds_with_students_intervals(data):
    view = views.checked(data, x="learning_rate", y="reward", color="algorithm", facet="feedback")
    assert view == View("learning_rate", "reward", "algorithm", "oracle")
    rows = views.rows(data, view)
    assert len(rows) == 16
    assert list(rows[0])[:4] == ["oracle", "algorithm", "learning_rate", "metric"]
    for row in rows:
        at = {name: row[name] for name in ("oracle", "algorithm", "learning_rate")}
        values = data.reward.sel(at).values.astype(float)
        low, high = stats.ttest_1samp(values, 0).confidence_interval()
        assert row["mean"] == pytest.approx(values.mean())
        assert (row["mean_low"], row["mean_high"]) == (pytest.approx(low), pytest.approx(high))


def test_what_is_not_shown_is_held_and_said(data):
    view = views.checked(data, x="step", at=["oracle=ordinal", "learning_rate=0.10"])
    rows = views.rows(data, view)
    assert view.color == "algorithm"
    assert {(row["oracle"], row["learning_rate"]) for row in rows} == {("ordinal", 0.1)}
    values = data.reward_curve.sel({"oracle": "ordinal", "learning_rate": 0.1, "algorithm": "rloo"})
    mine = [row["mean"] for row in rows if row["algorithm"] == "rloo"]
    np.testing.assert_allclose(mine, values.astype(float).mean("seed"), rtol=1e-5)
    first = views.rows(data, views.checked(data, x="learning_rate"))
    assert {row["oracle"] for row in first} == {"binary"}


def test_runs_that_are_not_done_or_broke_down_are_left_out(data):
    data["finite_steps"][0, 0, 0, 3] = 17
    data["finished"] = (data.reward.dims, np.ones(data.reward.shape, bool))
    data["finished"][0, 0, 0, 5] = False
    data["reward"][0, 0, 0, 5] = np.nan
    data["reward"][1, 0, 0] = np.nan
    rows = views.rows(data, View("learning_rate", "reward", "algorithm", "oracle"))
    assert len(rows) == 15
    values = np.delete(data.reward.values[0, 0, 0].astype(float), [3, 5])
    assert rows[0]["seeds"] == 10
    assert rows[0]["mean"] == pytest.approx(values.mean())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"x": "foo"}, "--x: 'foo'; allowed: algorithm, learning_rate, oracle, feedback, step"),
        ({"color": "seed"}, "--color: 'seed'; allowed: algorithm, learning_rate, oracle"),
        ({"facet": "step"}, "--facet: 'step'; allowed: algorithm, learning_rate, oracle, feedback"),
        ({"y": "foo"}, "--y: 'foo'; allowed: reward, reward_mean"),
        ({"x": "step", "y": "reward_mean"}, "--y: 'reward_mean'; allowed with a recorded curve: r"),
        ({"x": "oracle", "color": "oracle"}, "--color: 'oracle' is --x too; allowed: another"),
        ({"at": ["noise=1"]}, "--at: 'noise'; allowed: algorithm,"),
        ({"at": ["learning_rate=3"]}, "--at: learning_rate='3'; allowed: 0.01, 0.1, 1, 10"),
        ({"at": ["learning_rate=1", "learning_rate=10"]}, "--at: 'learning_rate' twice; allowed: "),
        ({"at": ["learning_rate"]}, "--at: 'learning_rate'; allowed: AXIS=VALUE"),
    ],
)
def test_names_that_are_not_there_are_refused_in_a_line(data, asked, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as raised:
        views.checked(data, **asked)
    assert "\n" not in str(raised.value)


def test_axes_of_a_zip_are_shown_by_their_values(zipped):
    view = views.automatic(zipped, "reward")
    assert (view.x, view.color) == ("kl_weight", "who")
    labels = {row["who"] for row in views.rows(zipped, view)}
    assert labels == {"SDPO, learning rate 0.02", "RLOO, learning rate 1.28"}
    along = views.checked(zipped, x="learning_rate", at=["kl_weight=0.1"])
    assert along.color == "algorithm"
    rows = views.rows(zipped, along)
    assert [(row["algorithm"], row["learning_rate"]) for row in rows] == [
        ("sdpo", 0.02), ("rloo", 1.28),
    ]  # fmt: skip
    assert rows[1]["mean"] == pytest.approx(float(zipped.reward[1, :, 1].astype(float).mean()))


def test_several_settings_at_one_point_are_refused(zipped):
    zipped["learning_rate"] = ("who", [0.02, 0.02])
    with pytest.raises(ValueError, match=r"--x: learning_rate has one value in several settings"):
        views.checked(zipped, x="learning_rate", color="kl_weight")
    assert views.checked(zipped, x="learning_rate", at=["algorithm=rloo"]).color is None


def test_a_zip_of_numbers_stands_at_its_numbers():
    coordinates = {
        "seed": np.arange(6), "kl_weight": ("setting", [0.3, 0.1]),
        "feedback_strength": ("setting", [1.0, 1.0]),
    }  # fmt: skip
    data = dataset(("seed", "setting"), coordinates, (6, 2))
    assert views.automatic(data, "reward").x == "kl_weight"


def test_algorithms_of_a_zip_are_compared_as_they_stand_there(zipped):
    rows = summary.comparison_rows(zipped)
    assert [row["kl_weight"] for row in rows] == [0.0, 0.1]
    row = rows[1]
    assert (row["first"], row["first_learning_rate"]) == ("sdpo", 0.02)
    assert (row["second"], row["second_learning_rate"]) == ("rloo", 1.28)
    a, b = zipped.reward.values[1].astype(float).T
    assert row["difference"] == pytest.approx((a - b).mean())


def test_the_best_setting_is_chosen_on_other_seeds_than_it_is_judged_on(data):
    # So good on the judging seeds that it would be chosen if they had a say.
    data["reward"][0, 1, 0, 1::2] += 100
    chosen = best.best_settings(data)
    assert chosen.apart and chosen.choice
    rows = best.rows(chosen)
    assert [(r["oracle"], r["algorithm"], r["learning_rate"]) for r in rows] == [
        ("binary", "sdpo", 10.0), ("binary", "rloo", 0.01),
        ("ordinal", "sdpo", 10.0), ("ordinal", "rloo", 0.01),
    ]  # fmt: skip
    assert rows[0]["mean"] == pytest.approx(float(data.reward[0, 3, 0, 1::2].astype(float).mean()))
    assert (rows[0]["tried"], rows[0]["seeds"]) == (4, 6)


def test_with_few_seeds_the_same_ones_choose_and_judge(data):
    chosen = best.best_settings(data.isel(seed=slice(9)))
    assert not chosen.apart
    assert best.rows(chosen)[0]["seeds"] == 9


def test_a_setting_that_breaks_down_is_not_the_best(data):
    data["finite_steps"][0, 3, 0, 4] = 3
    assert best.rows(best.best_settings(data))[0]["learning_rate"] == 1.0


def test_a_condition_is_nothing_to_choose(data):
    chosen = best.best_settings(data.isel(learning_rate=0, drop=True))
    assert not chosen.choice and not chosen.apart
    assert len(chosen.best) == 4


def test_profiles_count_the_runs_above_a_score(data):
    chosen = best.best_settings(data)
    found = best.profiles(chosen)
    assert list(found) == ["feedback Binary", "feedback Ordinal"]
    scores, share = found["feedback Ordinal"]["sdpo"]
    values = data.reward.values[0, 3, 1, 1::2].astype(float)
    np.testing.assert_allclose(share.estimate, [(values > score).mean() for score in scores])
    assert ((share.low <= share.estimate) & (share.estimate <= share.high)).all()
    (row, _) = best.improvements(chosen)
    assert (row["first"], row["second"], row["improvement"]) == ("sdpo", "rloo", 1.0)
    assert list(best.by_panel(chosen, [row])) == ["feedback Binary"]


def test_curves_of_the_best_are_over_the_seeds_that_judge(data):
    chosen = best.best_settings(data)
    rows = best.curve_rows(data, chosen, "reward")
    mine = [r["mean"] for r in rows if r["algorithm"] == "rloo" and "Ordinal" in r["condition"]]
    expected = data.reward_curve[1, 0, 1, 1::2].astype(float).mean("seed")
    np.testing.assert_allclose(mine, expected, rtol=1e-5)


def inside(figure) -> bool:
    """Whether all text of a figure is in it."""
    FigureCanvasAgg(figure).draw()
    boxes = [legend.get_window_extent() for legend in figure.legends]
    for ax in figure.axes:
        texts = (ax.title, ax.xaxis.label, ax.yaxis.label)
        boxes += [each.get_window_extent() for each in texts if each.get_text()]
    page = figure.bbox
    return all(
        page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        for box in boxes
    )


@pytest.mark.parametrize("letters", [3, 30, 300])
@pytest.mark.parametrize("count", [2, 8, 20])
def test_a_legend_is_never_cut(count, letters):
    names = [f"{number}{'W' * letters}" for number in range(count)]
    coordinates = {"oracle": names, "noise": [0.0, 0.1, 0.2], "seed": np.arange(3)}
    data = dataset(tuple(coordinates), coordinates, (count, 3, 3))
    view = View("noise", "reward", "oracle")
    figure = plots.draw(data, view, views.rows(data, view))
    assert inside(figure)
    (legend,) = figure.legends
    assert len(legend.get_texts()) == count
    # It is below the panel, and leaves it room.
    (ax,) = figure.axes
    assert legend.get_window_extent().y1 <= ax.xaxis.label.get_window_extent().y0
    assert ax.get_window_extent().height > 0.3 * drawn_height(figure)


def drawn_height(figure) -> float:
    return min(figure.bbox.height, 3.8 * figure.dpi)


def test_words_have_no_line_between_them_and_numbers_have(data):
    for x, line in (("oracle", "None"), ("learning_rate", "-")):
        view = View(x, "reward", "algorithm")
        (ax,) = plots.draw(data, view, views.rows(data, view)).axes
        found = [each for each in ax.get_lines() if len(each.get_xdata()) == data.sizes[x]]
        assert found[0].get_linestyle() == line
        assert ax.get_xscale() == ("log" if x == "learning_rate" else "linear")


def test_too_many_panels_are_refused(data):
    many = dataset(("noise", "seed"), {"noise": np.arange(30.0), "seed": [0, 1]}, (30, 2))
    view = views.checked(many, facet="noise")
    with pytest.raises(ValueError, match="--facet: noise has 30 values; allowed: at most 24"):
        plots.check_size(view, views.rows(many, view))


SWEEP = """
[base]
length = 2
vocab_size = 3
rollouts = 2
steps = 20
metrics = ["reward"]
record = ["reward"]
record_every = 10
[axes]
noise = [0.0, 0.2]
learning_rate = [0.01, 0.1, 1.0]
seed = { count = 6 }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("asked")
    (place / "sweep.toml").write_text(SWEEP)
    assert main(["run", str(place / "sweep.toml"), "--out", str(place / "out")]) == 0
    return place / "out"


def test_render_writes_the_figure_that_is_asked_for_and_its_table(folder, capsys):
    asked = ["--x", "learning_rate", "--y", "reward", "--color", "noise"]
    assert main(["render", str(folder), *asked]) == 0
    png, svg, table = capsys.readouterr().out.split()
    assert png.endswith("figures/main-reward-over-learning_rate-by-noise.png")
    assert Path(svg).read_text().lstrip().startswith("<?xml")
    rows = list(csv.DictReader(Path(table).read_text().splitlines()))
    assert len(rows) == 6
    data = sweeps.open(folder)
    for row in rows:
        at = {name: float(row[name]) for name in ("noise", "learning_rate")}
        assert float(row["mean"]) == pytest.approx(float(data.reward.sel(at).mean()), rel=1e-4)
    # A report is not made by it.
    assert not (folder / "report.html").exists()


def test_render_refuses_names_and_folders_in_one_line(folder, tmp_path, capsys):
    assert main(["render", str(folder), "--x", "foo"]) == 2
    said = capsys.readouterr().err
    assert said == "error: --x: 'foo'; allowed: noise, learning_rate, step\n"
    shutil.copy(RESULTS / "paper" / "manifest.json", tmp_path)
    assert main(["render", str(tmp_path), "--color", "noise"]) == 2
    said = capsys.readouterr().err
    told = "--color: for a reproduction of 1000 seeds; allowed: with a folder that `run` wrote"
    assert said == f"error: {told}\n"
