from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.grid import Grid
from tse_refine.evaluation.logged import recommended_refinement
from tse_refine.refinement import CountThreshold, NoRefinement, Oracle, Threshold


def test_stated_conditions_decide_on_the_recommendation_each_as_often_as_it_counts():
    rules = (NoRefinement(), Threshold(0.1), CountThreshold(0.1, 0.3), Oracle())
    grid = Grid((Condition(1, 0), Condition(1, 3), Condition(0, 1)), rules)
    snri = {"none": (9.9, 9.9), "0.1": (5.0, 4.0), "count:0.1-0.3": (4.5, 4.9), "oracle": (9.9, 9.9)}
    rows = [
        {"active": condition.active, "inactive": condition.inactive, "threshold": rule.name, "snri_db": value}
        for place, condition in enumerate(grid.conditions)
        for rule in rules
        for value in [[*snri[rule.name], float("nan")][place]]
    ]
    assert recommended_refinement(rows, grid) == CountThreshold(0.1, 0.3)
    assert recommended_refinement(rows, grid, [[1, 0]]) == Threshold(0.1)
    assert recommended_refinement(rows, grid, [[1, 0], [1, 0], [1, 3]]) == Threshold(0.1)
    assert recommended_refinement(rows, Grid((Condition(0, 1),), rules)) is None
