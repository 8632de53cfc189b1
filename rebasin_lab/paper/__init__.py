"""The reproduction: what the paper trains, measures and claims, on the library.

`experiments` says what is trained at each profile and keeps it, `train_many` trains many, `cache`
keeps results, `fingerprints` tells them apart, `counterexample` and `imagenet` are networks of the
paper, `claims` what it claims.
"""
