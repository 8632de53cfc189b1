"""Claims about model width (section 5.3)."""

from rebasin_lab.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
