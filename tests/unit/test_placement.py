"""A placement does what it says, or says that it cannot: no field is taken in silence."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tasks.spec import Placement


@pytest.mark.parametrize("field", ["pool", "image"])
def test_a_place_that_labwright_cannot_send_steps_to_is_refused_in_words(field: str) -> None:
    with pytest.raises(ValidationError, match="work pools are not available yet; leave it out"):
        Placement.model_validate({field: "gpus"})
    assert getattr(Placement.model_validate({field: None}), field) is None
