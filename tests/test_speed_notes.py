"""What a table says of how its numbers came about."""

import numpy as np
import pytest
from results_by_hand import result_of, samples_of

from vared_mm.report.speed_conditions import speed_notes


@pytest.mark.parametrize(
    ("share", "full", "told"), [(0.5, 0.8, True), (0.5, 0.6, False), (1.0, 0.8, False)],
    ids=["CGNet", "a dynamic network", "all is open"],
)  # fmt: skip
def test_a_network_that_computes_what_its_formula_leaves_out_is_told_of(share, full, told):
    layers = [{"name": "conv1"}]
    kinds = dict(share=share, full_gmacs=full, paper_gmacs=0.8 * share)
    spreads = {key: dict.fromkeys(("avg", "min", "max"), value) for key, value in kinds.items()}
    samples = samples_of(["a.mp4"], [0], [], np.ones(1))
    result = result_of(samples, cost={"dense_gmacs": 0.8, "layers": layers, **spreads})
    notes = [f"{result.name} is gated: its GMACs by formula leave out what its gates close, which "
             "it computes all the same, in the time of the dense network at least."]  # fmt: skip
    assert speed_notes([result, result]) == (notes if told else [])
