"""The reproduction: what the paper trains, measures and claims, on the library.

`networks` says what determines one network, `profiles` how large everything is in a run of a
certain size, `families` which other networks it is about, `trainings` which of all each notebook
trains; `store` keeps networks, `train_many` trains many, `cache` keeps results, `fingerprints`
tells them apart; `counterexample` and `imagenet` are networks of the paper, `claims` what it
claims.
"""
