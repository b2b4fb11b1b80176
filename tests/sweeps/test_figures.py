"""Every figure is written, small and the same each time, and shows the numbers it should."""

import importlib
import itertools
import sys
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import same_color

from sweeps.paper import figures
from sweeps.paper.published import ALGORITHMS, published
from sweeps.report import drawing
from sweeps.report.style import ALGORITHM_LOOKS, PUBLISHED_MARKER
from sweeps.store import datasets
from tests.sweeps import synthetic


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("results"), seeds=24)


@pytest.fixture(scope="module")
def results(out):
    return datasets.Results(out)


@pytest.fixture(scope="module")
def drawn(results):
    return {name: figures.draw(name, results) for name in figures.FIGURES}


@pytest.fixture(scope="module")
def written(out):
    return figures.write_figures(out)


def lines(ax, algorithm, marker):
    """The points of one algorithm that have this marker, left to right: ``[point, (x, y)]``."""
    colour = ALGORITHM_LOOKS[algorithm].colour
    found = [
        line.get_xydata()
        for line in ax.get_lines()
        if line.get_marker() == marker
        and same_color(line.get_markerfacecolor(), colour)
        and line.get_linestyle() == "None"
    ]
    points = np.concatenate(found)
    return points[np.argsort(points[:, 0], kind="stable")]


def test_all_twelve_files_are_there_and_small(out, written):
    expected = {f"figure{number}.{kind}" for number in range(1, 7) for kind in ("png", "svg")}
    assert {path.name for path in (out / "figures").iterdir()} == expected
    assert {path.name for path in written} == expected
    for path in written:
        limit = 300_000 if path.suffix == ".svg" else 200_000
        assert 5_000 < path.stat().st_size < limit, path.name


def test_the_vector_files_are_well_formed_and_carry_no_date(written):
    for path in written:
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8")
            assert ElementTree.fromstring(text).tag.endswith("svg")
            assert "<dc:date>" not in text


@pytest.mark.parametrize("name", ["figure2", "figure5"])
def test_the_bytes_are_the_same_each_time_whatever_the_users_settings(
    tmp_path, results, written, name
):
    first = {path.name: path.read_bytes() for path in written}
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "axes.facecolor": "k"}):
        again = drawing.save(
            name, figures.draw(name, results), tmp_path, figures.FIGURES[name].title
        )
        assert matplotlib.rcParams["font.size"] == 30
    assert len(again) == 2
    for path in again:
        assert path.read_bytes() == first[path.name], path.name


def test_pyplot_and_its_global_state_are_not_touched(monkeypatch, results):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # makes its import fail
    monkeypatch.delitem(sys.modules, "sweeps.paper.figures")
    fresh = importlib.import_module("sweeps.paper.figures")
    assert fresh is not figures
    fresh.draw("figure6", results)


def test_every_axis_has_a_title_unless_it_shares_its_neighbours(drawn):
    for name, figure in drawn.items():
        for ax in figure.axes:
            place = ax.get_subplotspec()
            assert ax.get_xlabel() or not place.is_last_row(), name
            assert ax.get_ylabel() or not place.is_first_col(), name


def test_no_text_is_cut_off_or_printed_over_another(drawn):
    for name, figure in drawn.items():
        figure.draw_without_rendering()
        texts = [text for legend in figure.legends for text in legend.get_texts()]
        for ax in figure.axes:
            texts += [*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label]
            texts += ax.get_legend().get_texts() if ax.get_legend() else []
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
        page = figure.bbox
        for text, box in boxes:
            assert page.x0 <= box.x0 <= box.x1 <= page.x1, (name, text)
            assert page.y0 <= box.y0 <= box.y1 <= page.y1, (name, text)
        for (first, one), (second, other) in itertools.combinations(boxes, 2):
            assert not one.overlaps(other), (name, first, second)


def test_figure1_marks_the_published_final_rewards(drawn):
    for index, ax in enumerate(drawn["figure1"].axes):
        for algorithm in ALGORITHMS:
            ((_, value),) = lines(ax, algorithm, PUBLISHED_MARKER)
            assert value == published()["table1_final_reward"][algorithm][index]


def test_figure2_shows_our_means_the_published_values_and_the_flipped_control(drawn, results):
    (ax,) = drawn["figure2"].axes
    for algorithm in ALGORITHMS:
        ours = lines(ax, algorithm, ALGORITHM_LOOKS[algorithm].marker)[:, 1]
        credit = results["algorithms"]["credit"].sel({"algorithm": algorithm}).astype(float)
        np.testing.assert_allclose(ours, credit.mean("seed"), rtol=1e-6)
        theirs = lines(ax, algorithm, PUBLISHED_MARKER)[:, 1]
        np.testing.assert_array_equal(theirs, published()["table2_credit_correlation"][algorithm])
    hollow = [line for line in ax.get_lines() if line.get_markerfacecolor() == "white"]
    ((_, value),) = hollow[0].get_xydata()
    flipped = results["flipped"]["credit"].sel({"algorithm": "reinforce"}).astype(float)
    assert value == pytest.approx(float(flipped.mean()), rel=1e-6)


@pytest.mark.parametrize(
    ("panel", "metric", "key"), [(0, "reward", "reward"), (1, "credit", "credit_read_off_plot")]
)
def test_figure4_shows_each_noise_level(drawn, results, panel, metric, key):
    ax = drawn["figure4"].axes[panel]
    for algorithm in ALGORITHMS:
        ours = lines(ax, algorithm, ALGORITHM_LOOKS[algorithm].marker)[:, 1]
        expected = results["noise"][metric].sel({"algorithm": algorithm}).astype(float).mean("seed")
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
        theirs = lines(ax, algorithm, PUBLISHED_MARKER)[:, 1]
        np.testing.assert_array_equal(theirs, published()["figure4_noise"][key][algorithm])


def test_figure6_shows_mean_and_deviation_of_our_seeds_and_of_the_papers(drawn, results):
    (ax,) = drawn["figure6"].axes
    numbers = [text.get_text() for text in ax.texts]
    reward = results["algorithms"]["reward"].sel({"oracle": "continuous"}).astype(float)
    for algorithm in ALGORITHMS:
        ours = reward.sel({"algorithm": algorithm}).values
        assert f"{ours.mean():.3f}\n±{ours.std(ddof=1):.3f}" in numbers
        mean, deviation = published()["figure6_multiseed"]["reward_mean_std"][algorithm]
        assert f"{mean:.3f}\n±{deviation:.3f}" in numbers


def test_smoothing_is_a_centred_mean_with_shorter_windows_at_the_ends():
    values = np.random.default_rng(3).normal(size=(40, 2))
    smooth = figures.smoothed(values, 15)
    np.testing.assert_allclose(smooth[20], values[13:28].mean(axis=0))
    np.testing.assert_allclose(smooth[0], values[:8].mean(axis=0))
    np.testing.assert_allclose(smooth[-1], values[-8:].mean(axis=0))
    np.testing.assert_allclose(figures.smoothed(values, 1), values)


def test_an_unknown_figure_is_named(results):
    with pytest.raises(ValueError, match="figure7"):
        figures.draw("figure7", results)
