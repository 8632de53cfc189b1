"""The reproduction: what the paper trains, measures and claims, on the library.

`networks` says what determines a network, `profiles` how large everything is in a run of a certain
size, whose single `settings` can be replaced, `trainings` which networks each notebook trains;
`store` keeps networks, `train_many` trains many, `cache` keeps results, `fingerprints`
tells them apart; `counterexample` and `imagenet` are networks of the paper, `claims` what it
claims.
"""
