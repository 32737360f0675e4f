"""The paper's ablations as populations: what is trained, how it acts, what is drawn."""
