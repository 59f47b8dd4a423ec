"""Cases as a hypothesis strategy: hypothesis decides, and makes a failure small."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.property.case import Case
from tests.property.cases import draw_case


class Drawn:
    """Decisions that hypothesis takes."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def integer(self, low: int, high: int) -> int:
        """See `tests.property.choices.Choices`."""
        return self.draw(st.integers(low, high))


@st.composite
def cases(draw: st.DrawFn, extras: int) -> Case:
    """Whole cases; ``extras`` of a hundred queries are outside the incremental grammar."""
    return draw_case(Drawn(draw), extras=extras)


def budget(examples: int) -> settings:
    """The same cases in every run of the default suite, so many of them."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
