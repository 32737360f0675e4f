"""Online fine-tuning: collecting, updating, and the pictures of it."""
