# SPDX-License-Identifier: Apache-2.0
"""Sites and links as a drawing: this site, a line to every remote site, what runs on it. The table below is its twin.

Across in per cent, down in pixels: it takes the width of the page, and its text keeps its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from replication.choices import SiteStatus
from replication.models import RemoteSite

ROW_PIXELS = 76
SITES_MAX = 12
"""More are in the table only."""

_TONES = {
    SiteStatus.RELATIONSHIP_ESTABLISHED: "good",
    SiteStatus.UNREACHABLE: "bad",
    SiteStatus.HANDSHAKING: "busy",
    SiteStatus.NOT_PAIRED: "idle",
}


class LinkFacts(Protocol):
    """What the drawing reads of a link; the template shows its sums."""

    @property
    def site(self) -> RemoteSite: ...


@dataclass(frozen=True)
class Branch:
    """One remote site: `y` the middle of its box, `top` its upper edge; `tone` a class of the style sheet."""

    link: LinkFacts
    y: int
    tone: str

    @property
    def top(self) -> int:
        return self.y - 26

    @property
    def above(self) -> int:
        """Base line of the text over the line."""
        return self.y - 8

    @property
    def below(self) -> int:
        """Base line of the text under the line."""
        return self.y + 18


@dataclass(frozen=True)
class Topology:
    """`hub`: the middle of this site's box; `hidden`: sites that are not drawn."""

    height: int
    hub: int
    branches: list[Branch]
    hidden: int

    @property
    def hub_top(self) -> int:
        return self.hub - 32

    @property
    def first(self) -> int:
        """Upper end of the trunk."""
        return self.branches[0].y

    @property
    def last(self) -> int:
        """Lower end of the trunk."""
        return self.branches[-1].y


def topology(links: Sequence[LinkFacts]) -> Topology | None:
    """None: there is nothing to draw."""
    if not links:
        return None
    branches = [
        Branch(link, ROW_PIXELS // 2 + index * ROW_PIXELS, _TONES.get(SiteStatus(link.site.status), "idle"))
        for index, link in enumerate(links[:SITES_MAX])
    ]
    height = ROW_PIXELS * len(branches)
    return Topology(height, height // 2, branches, max(0, len(links) - SITES_MAX))
