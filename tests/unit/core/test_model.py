"""The few properties that the value types derive from themselves."""

import pytest
from msgspec.structs import replace

from gpushare.core.model import Principal, Role


def test_only_the_admin_role_opens_admin_routes() -> None:
    """A person's key is no admin key, whatever else it may do."""
    person = Principal(key_id="a1b2c3", name="ana", owner="ana", weight=9.0)
    assert not person.is_admin
    assert replace(person, role=Role.ADMIN).is_admin


def test_values_cannot_be_changed_on_the_way() -> None:
    """Whoever is handed a value may keep it: nobody can change it under their hands."""
    person = Principal(key_id="a1b2c3", name="ana", owner="ana")
    with pytest.raises(AttributeError):
        setattr(person, "role", Role.ADMIN)  # noqa: B010
