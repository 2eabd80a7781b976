"""What policies are trained on: questions and the curricula that choose among them, demonstrations and windows."""
