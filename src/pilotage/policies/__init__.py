"""What acts. Language policies: causal language models with their tokenizers, and their log-probabilities."""
