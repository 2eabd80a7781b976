"""Policies that act in continuous spaces: encoder, head, sampler, guidance and executor, each replaceable."""
