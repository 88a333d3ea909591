"""Change event simulation on masks, p(S_{t+1} | S_t) of Changen2 (Zheng et al., TPAMI 2025).

Objects are created and removed as whole instances, regions change class by a transition matrix; every changed pixel
belongs to exactly one logged event.
"""

from changen_cli.events.demography import Demography
from changen_cli.events.footprints import Stock, collect_exemplars, stock_library
from changen_cli.events.hazards import Damage
from changen_cli.events.regions import ObjectTable, measure_objects, polygon_wkt
from changen_cli.events.simulate import simulate_series, simulate_step
from changen_cli.events.state import EventRules, SeriesState, start_series
from changen_cli.events.surface import unlikely_ground
from changen_cli.events.transitions import Transitions, resolve_transitions

__all__ = [
    "Damage",
    "Demography",
    "EventRules",
    "ObjectTable",
    "SeriesState",
    "Stock",
    "Transitions",
    "collect_exemplars",
    "measure_objects",
    "polygon_wkt",
    "resolve_transitions",
    "simulate_series",
    "simulate_step",
    "start_series",
    "stock_library",
    "unlikely_ground",
]
