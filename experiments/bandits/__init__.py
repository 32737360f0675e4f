"""2D bandits: problems, training of a row of them at once, numbers and pictures."""
