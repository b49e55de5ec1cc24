"""What one viewer may see of other people.

Called by: ``core.status``, for everything it shows.  Rules: this is the only place that decides it; what is
denied here never reaches a template, a stream or a document.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from gpushare.core.keys import KeyRing
from gpushare.core.model import Principal
from gpushare.core.names import may_use

SOMEBODY = "somebody"
OTHER_MODEL = "another model"

People = Literal["names", "initials", "hidden"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """One viewer.

    ``who`` is None for a viewer without a key.  ``people`` is how persons see one another; admins see names.
    """

    who: Principal | None
    people: People = "names"

    @property
    def signed_in(self) -> bool:
        """Whether the viewer has a key."""
        return self.who is not None

    @property
    def is_admin(self) -> bool:
        """Whether the viewer sees everything."""
        return self.who is not None and self.who.is_admin

    @property
    def kind(self) -> tuple[str, ...]:
        """What all viewers have in common who see the same of other people."""
        if self.who is None:
            return ("nobody",)
        return (self.who.role, self.people, *self.who.models)

    def own(self, owners: Collection[str]) -> str:
        """Returns the viewer's owner if it is among these, else nothing."""
        return self.who.owner if self.who is not None and self.who.owner in owners else ""

    def is_own(self, owner: str) -> bool:
        """Whether a call of this owner is the viewer's own."""
        return self.who is not None and self.who.owner == owner

    def sees_details(self, owner: str) -> bool:
        """Whether the viewer may see tool and token counts of this owner's calls."""
        return self.is_admin or self.is_own(owner)

    def shown(self, name: str, *, own: bool) -> str:
        """Returns how the viewer sees a person's name."""
        if self.who is None:
            return SOMEBODY
        if own or self.is_admin or self.people == "names":
            return name
        if self.people == "initials":
            return "".join(f"{part[0].upper()}." for part in name.split()) or SOMEBODY
        return SOMEBODY

    def whose(self, name: str, *, own: bool) -> str:
        """Returns whose something is, as the viewer may know."""
        return "your" if own else f"{self.shown(name, own=False)}'s"

    def may_see(self, model: str) -> bool:
        """Whether the viewer may know of a model: a key can be limited to some."""
        return self.who is None or not self.who.models or may_use(self.who.models, model)

    def model(self, name: str) -> str:
        """Returns how the viewer sees the model of a call."""
        return name if self.may_see(name) else OTHER_MODEL


def owner_names(ring: KeyRing) -> dict[str, str]:
    """Returns the name by which each owner is shown: that of the owner's first key."""
    return {record.owner: record.name for record in reversed(ring.records)}
