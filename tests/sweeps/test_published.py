"""The paper's numbers are whole and consistent, and its contradictions are found by rule."""

import copy

import numpy as np
import pytest

from sweeps.paper import published as paper


def test_every_table_has_a_plausible_value_for_each_algorithm_and_feedback():
    limits = {1: (0, 1), 2: (-1, 1), 3: (0, np.log(8))}
    for number, (low, high) in limits.items():
        for algorithm in paper.ALGORITHMS:
            row = paper.table(number, algorithm)
            assert row.shape == (len(paper.published()["feedback_order"]),)
            assert np.all((row > low) & (row < high))


def test_the_figures_have_a_value_for_each_noise_level():
    figure = paper.published()["figure4_noise"]
    for algorithm in paper.ALGORITHMS:
        assert len(figure["reward"][algorithm]) == len(figure["noise"])
        assert len(figure["credit_read_off_plot"][algorithm]) == len(figure["noise"])


def test_values_that_the_paper_prints_twice_are_the_same():
    """Noise 0 of figure 4 is the continuous column of tables 1 and 2, for SDPO."""
    continuous = paper.published()["feedback_order"].index("continuous")
    figure = paper.published()["figure4_noise"]
    assert figure["reward"]["sdpo"][0] == paper.table(1, "sdpo")[continuous]
    assert figure["credit_read_off_plot"]["sdpo"][0] == paper.table(2, "sdpo")[continuous]


def test_the_text_contradicts_the_numbers_where_it_does():
    wrong = {name for name, check in paper.text_checks().items() if not check.agrees}
    assert wrong == {
        "margin_abstract_low",
        "margin_reinforce_low",
        "late_rise",
        "advantage_weighted_credit_high",
        "entropy_reduction_abstract_low",
        "noise_credit_most",
        "alpha_start",
    }


def test_a_check_quotes_the_text_and_computes_the_other_side():
    check = paper.text_checks()["margin_reinforce_low"]
    assert check.text == 0.123
    assert check.data == pytest.approx(0.127)
    assert "0.123" in check.quote
    assert check.source == "table 1"


def test_the_verdicts_follow_the_numbers():
    numbers = copy.deepcopy(paper.published())
    numbers["figure4_noise"]["credit_read_off_plot"]["sdpo"][-1] = 0.722
    numbers["table1_final_reward"]["reinforce"][0] = 0.527  # the least margin becomes 0.123
    checks = paper.text_checks(numbers)
    assert checks["noise_credit_most"].agrees
    assert checks["margin_reinforce_low"].agrees
    numbers["figure6_multiseed"]["reward_mean_std"]["sdpo"][0] = 0.7
    assert not paper.text_checks(numbers)["multiseed_gap"].agrees


def test_agreement_is_up_to_the_tolerance_and_not_beyond():
    def check(data):
        return paper.TextCheck("n", "3", "q", 0.137, data, "table 1", 0.001).agrees

    assert check(0.138)
    assert check(0.136)
    assert not check(0.1381)


def test_every_statement_of_the_text_is_checked():
    assert set(paper.text_checks()) == set(paper.text_claims()["statements"])


def test_limits_are_numbers_of_the_text():
    assert paper.limit("convergence", "step") == 150
    assert paper.limit("deviations", "value") == 3
    with pytest.raises(KeyError):
        paper.limit("no such limit", "step")
