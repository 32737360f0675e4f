"""The paper's table: what is trained for it, how long that takes, what came out."""
