"""Claims about the onset of mode connectivity (section 5.2)."""

from rebasin_lab.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
