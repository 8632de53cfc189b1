"""The reproduction: what the paper trains, measures and claims, on the library.

`networks` has recipes of networks, `profiles` the sizes of a run, `settings` checks of single ones,
`store` has trained networks, `train_many` trains many, `cache` has results, `fingerprints` the keys
of both; `counterexample` and `imagenet` are networks of the paper, `foreign_pair` other people's;
`claim` is one claim. `sections` measure, one module for each section of the paper and its notebook;
`claims` has the claims of all, and the scoreboard.
"""
