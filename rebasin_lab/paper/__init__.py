"""The reproduction: what the paper trains, measures and claims, on the library.

`experiments` says what is trained at each profile and keeps it, `sweeps` trains many, `records`
keeps results, `identity` tells them apart, `counterexample` and `published` are networks of the
paper, `claims` what it claims.
"""
