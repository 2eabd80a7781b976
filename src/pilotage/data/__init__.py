"""What policies are trained on: questions with checkable answers, and the curricula that choose among them."""
