"""The regret figure: the cost of policies, and the part of it that no policy could avoid."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.picture import Picture
from paper_figures.results import Results
from paper_figures.style import COLOURS, NAMES, add_legend, new_figure, style_axes

SCENES = ("warm", "remote", "bare")
POLICIES = (
    *("serverless", "availability", "locality", "shepherd", "serverlessllm"),
    *("serverlessllm_kept", "warmserve", "hydraserve"),
)


def regret(results: Results) -> Figure:
    """Draw a panel per scene: the mean delay as a bar, with the bound as its lower part."""
    figure = new_figure(2.8, columns=2)
    panels = figure.subplots(1, len(SCENES))
    for axes, scene in zip(panels, SCENES, strict=True):
        _panel(axes, results, scene)
        style_axes(axes, "", "mean delay (s)" if scene == SCENES[0] else "")
        axes.set_title(NAMES[scene], fontsize=8)
        axes.set_xticks([])
    add_legend(figure, panels[0], columns=5)
    return figure


def _panel(axes: Axes, results: Results, scene: str) -> None:
    for at, policy in enumerate(POLICIES):
        delay = results.estimate("delay_s", scene=scene, policy=policy)
        bound = results.estimate("bound_s", scene=scene, policy=policy)
        spread = [[delay.value - delay.low], [delay.high - delay.value]]
        axes.bar(
            [at],
            [delay.value],
            0.8,
            yerr=spread,
            color=COLOURS[policy],
            label=NAMES[policy],
            error_kw={"elinewidth": 0.7, "capsize": 1.5, "ecolor": "#444444"},
        )
        axes.bar(
            [at],
            [bound.value],
            0.8,
            color="white",
            edgecolor=COLOURS[policy],
            hatch="//////",
            linewidth=0.6,
            label="bound for such policies",
        )


PICTURES = (Picture("regret", "Cost beside what is possible", "regret", regret),)
