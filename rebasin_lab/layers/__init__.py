"""A function of JAX as a list of its layers, to go through networks one layer after the other.

In reading order: `layer`, a product or convolution with a parameter and what is affine after it;
`program`, the list; `chains`, what the parameters after a layer do; `inputs`, of batches;
`batches`, what is kept of each; `walk`, parents and a merged network on their way; `statistics`,
those of BatchNorm measured on the way.
"""
