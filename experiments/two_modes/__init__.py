"""Rewards with several best modes: a bandit with two best corners, a maze with two equal ways."""
