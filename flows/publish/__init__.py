"""From a run to a published model: which model, what is known of it, and the files that say so.

    steps = measured_of(report, store)
    chosen = choose(report, steps, step="w8a8")
    card = card_of(chosen, report, steps, store)

Measurements are found by content: whatever the run evaluated or benchmarked with the bytes of the
model belongs to the model, whichever way its steps are named.
"""

from flows.publish.card import card_of
from flows.publish.choose import Chosen, choose, measured_of
from flows.publish.files import extras

__all__ = ["Chosen", "card_of", "choose", "extras", "measured_of"]
