"""Claims about what does not work (A.1, A.4)."""

from rebasin_lab.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
