"""All pictures. A new picture is a function and an entry in `PICTURES` of its file."""

from paper_figures import (
    cluster_figures,
    loading_figures,
    regret_figure,
    scheduler_figures,
    search_figure,
)

PICTURES = (
    *scheduler_figures.PICTURES,
    *cluster_figures.PICTURES,
    *loading_figures.PICTURES,
    *regret_figure.PICTURES,
    *search_figure.PICTURES,
)
