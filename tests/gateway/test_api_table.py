"""The table of the API."""

from experiments.api_table import NAMES, PAGE, page


def test_the_stored_table_is_current() -> None:
    """Fails if a parameter changes; `python -m experiments.api_table --write` renews the table."""
    assert PAGE.read_text() == page()


def test_every_parameter_of_the_apis_is_known() -> None:
    """Fails if a parameter of OpenAI or vLLM is refused without its reason."""
    for model, names in NAMES.items():
        known = {*model.model_fields, *model.unserved, *model.informing}
        assert set(names.split()) <= known


def test_no_parameter_is_treated_in_two_ways() -> None:
    for model in NAMES:
        fields, informing, unserved = map(
            set, (model.model_fields, model.informing, model.unserved)
        )
        assert not fields & informing
        assert not fields & unserved
        assert not informing & unserved
