"""Claims about merging many models (A.10)."""

from rebasin_lab.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
