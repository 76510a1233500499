"""The regret figure: what policies cost, and how much of that none of their class could save."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.style import COLOURS, NAMES, dress, legend, new_figure

SCENES = ("warm", "remote", "bare")
POLICIES = (
    *("serverless", "availability", "locality", "shepherd", "serverlessllm"),
    *("serverlessllm_kept", "warmserve", "hydraserve"),
)


def regret(results: Results) -> Figure:
    """A panel per scene: the mean delay as a bar, its lower part the bound."""
    figure = new_figure(2.8, columns=2)
    panels = figure.subplots(1, len(SCENES))
    for axes, scene in zip(panels, SCENES, strict=True):
        _panel(axes, results, scene)
        dress(axes, "", "mean delay (s)" if scene == SCENES[0] else "")
        axes.set_title(NAMES[scene], fontsize=8)
        axes.set_xticks([])
    legend(figure, panels[0], columns=5)
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
