"""Draw how far an ensemble's probabilities can be trusted."""

import pandas as pd
from matplotlib.figure import Figure

BEFORE, AFTER = "#999999", "#0072B2"


def trust(before: pd.DataFrame, after: pd.DataFrame, errors: list[float], risk: pd.DataFrame) -> Figure:
    """Draw the reliability diagram, before and after calibration, beside the errors among the surest images.

    before, after: tables of calibration.reliability. errors: both expected calibration errors.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="#CCCCCC", linewidth=1)
    for table, color, name, error in (
        (before, BEFORE, "mean of the members", errors[0]),
        (after, AFTER, "calibrated", errors[1]),
    ):
        left.plot(
            table["confidence"], table["accuracy"], "o-", color=color, label=f"{name}: ECE {error:.3f}", markersize=4
        )
    left.set(
        xlabel="probability of the likeliest class",
        ylabel="share of images where it is right",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    left.set_title("Is an answer of 80 % right in 80 % of cases?", fontsize=10)
    left.legend(frameon=False, fontsize=8, loc="upper left")
    right.plot(risk["coverage"], risk["risk"], color=AFTER)
    right.set(xlabel="share of images answered, the surest first", ylabel="share of these that are wrong", xlim=(0, 1))
    right.set_ylim(bottom=0)
    right.set_title("Errors, if the least sure images go to a human", fontsize=10)
    return figure
