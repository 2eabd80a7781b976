"""What acts. Language policies: causal language models with their tokenizers, and their log-probabilities.

Action policies (`actions`): encoder, head, sampler, guidance and executor of continuous actions.
"""
