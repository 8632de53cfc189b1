"""Claims about models trained on disjoint data (section 5.4)."""

from rebasin_lab.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
