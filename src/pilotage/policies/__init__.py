"""Policies. Language policies (`language`): causal language models, their tokenizers and log-probabilities.

Control policies (`control`): encoder, head, sampler, guidance and executor of continuous actions.
"""
