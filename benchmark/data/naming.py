"""The name of a data set in splits and messages: its registered name and the parameters that differ from defaults."""

from benchmark.core.registry import parameters_of
from benchmark.core.spec import Spec


def written_name(name: str, source: object) -> str:
    """The name, e.g. ``scenes[train=64]``, of a source that keeps each parameter in an attribute of the same name."""
    known = parameters_of(type(source)).items()
    values = {key: getattr(source, key) for key, parameter in known if getattr(source, key) != parameter.default}
    return str(Spec(name, values))
