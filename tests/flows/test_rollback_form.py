"""What the form of the rollback takes, without a server."""

from __future__ import annotations

import pytest
from prefect.exceptions import ParameterTypeError

from flows.rollback import rollback

WHOLE = {"by": "amara", "reason": "Too many refunds", "name": "tickets", "store": None, "to": 3}


def test_name_version_person_and_reason_are_taken():
    assert rollback.validate_parameters({**WHOLE, "by": " amara "}) == WHOLE


@pytest.mark.parametrize(
    "wrong",
    [{"name": "../tickets"}, {"name": "cache"}, {"to": 0}, {"by": " "}, {"reason": ""}],
)
def test_what_is_no_name_version_or_reason_is_refused(wrong):
    with pytest.raises(ParameterTypeError):
        rollback.validate_parameters({**WHOLE, **wrong})


def test_the_form_says_what_must_be_there():
    schema = rollback.parameters.model_dump()
    assert set(schema["required"]) == {"by", "reason"}
    assert schema["properties"]["by"]["pattern"] == r"\S"
