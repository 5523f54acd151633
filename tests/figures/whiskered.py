"""What a figure of means with whiskers shows, read back from its axes."""

import numpy as np
from matplotlib.axes import Axes


def points(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """By label, where the means lie."""
    found = {}
    for bars in axes.containers:
        x, y = (np.asarray(values, float).round(6).tolist() for values in bars[0].get_data())
        found[str(bars.get_label())] = (x, y)
    return found


def ends(axes: Axes) -> list[list[float]]:
    """Where each whisker begins and ends."""
    drawn = (segment for bars in axes.containers for lines in bars[2] for segment in lines.get_segments())
    return [np.asarray(segment)[:, 1].tolist() for segment in drawn if len(segment)]


def clean_level(axes: Axes) -> float:
    """Where the line of clean data lies."""
    return float(np.asarray(next(one for one in axes.lines if one.get_label() == "clean data").get_ydata())[0])
